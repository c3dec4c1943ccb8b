"""What the benchmark of data asks of a rank is what its steps decode."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.bench_data import N_FRAMES, demand, make_set, measured
from tools.recipe_table import Recipe, chosen


@pytest.mark.long
def test_one_rank_decodes_the_frames_of_its_steps() -> None:
    found = chosen(Recipe("street/g1_256.yaml", 1))
    asked = demand(found)
    assert asked.pictures == asked.inputs == found.request.n_frames * found.request.n_lanes
    assert asked.period == found.choice.prediction.period


def test_each_kind_of_file_is_packed_and_decoded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for modality, shape in (("A", (32, 64)), ("B", (32, 64, 3)), ("inst", (32, 64))):
        folder = tmp_path / f"frames/train_{modality}/a"
        folder.mkdir(parents=True)
        for i in range(N_FRAMES):
            Image.fromarray(rng.integers(0, 30, shape, np.uint8)).save(folder / f"{i}.png")
    for kind, suffix in (("PNG", b"images.png"), ("JPEG", b"images.jpg"), ("mp4", b"images.mp4")):
        data = make_set(tmp_path / "frames", tmp_path / kind, 64, kind)
        assert all(suffix in tar.read_bytes() for tar in (tmp_path / kind / "train").glob("*.tar"))
        seconds = measured(data)
        assert seconds.picture > 0
        assert seconds.inputs > 0
