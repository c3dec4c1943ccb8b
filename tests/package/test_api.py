"""The program from Python: the frames of the command, its messages, and the notebook."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vid2vid_dist as v
from tests.conftest import ROOT
from tests.inference.conftest import small_config, write_run

shards = pytest.importorskip("tests.inference.conftest").shards
VIDEO, N_PAST = "park", 2


@pytest.fixture
def run(shards: Path, tmp_path: Path) -> Path:
    return write_run(tmp_path, small_config(shards))


def arrays(shards: Path, modality: str) -> Iterator[np.ndarray]:
    folder = "raw" if modality == "B" else "raw_blind"
    for path in sorted((shards / folder / f"test_{modality}" / VIDEO).iterdir()):
        yield np.array(Image.open(path))


@pytest.mark.parametrize("first", ["real", "none"])
def test_frames_are_those_of_the_command(run: Path, shards: Path, tmp_path: Path, first: str) -> None:
    command = [sys.executable, ROOT / "launch/generate.py", run, "--device", "cpu", "--videos", VIDEO, "--first", first,
               "--out", tmp_path / "out"]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    pictures = list(arrays(shards, "B"))[:N_PAST] if first == "real" else "none"
    made = list(v.load(run, device="cpu").frames(
        arrays(shards, "A"), first=pictures, instances=arrays(shards, "inst")))
    wanted = [np.array(Image.open(path)) for path in sorted((tmp_path / "out" / VIDEO / "frames").iterdir())]
    assert len(made) == len(wanted) == 5
    assert all(np.array_equal(a, b) for a, b in zip(made, wanted, strict=True))


def test_maps_are_read_as_frames_are_wanted(run: Path) -> None:
    """Of a video without end."""
    n_read = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal n_read
        while True:
            n_read += 1
            yield np.zeros((32, 64), np.int64)

    frames = v.load(run, device="cpu").frames(endless(), "none", instances=endless())
    for n in range(1, 4):
        assert next(frames).shape == (32, 64, 3)
        assert n_read == 2 * (N_PAST + n)


def test_mistakes_are_told(run: Path, tmp_path: Path) -> None:
    model, ids = v.load(run, device="cpu"), [np.zeros((32, 64), np.uint8)] * 3
    picture = np.zeros((32, 64, 3), np.uint8)
    for words, maps, first, instances in (
            ("starts from real frames: give first", ids, None, ids),
            ("give 2 pictures", ids, [picture], ids),
            ("give 2 pictures", ids, "real", ids),
            ("give instances", ids, "none", None),
            ("1 label maps: the first generated frame needs 3", ids[:1], "none", ids),
            (r"give \(h, w\) of integers", [picture] * 3, "none", ids),
            (r"must lie in 0\.\.5", [ids[0] + 6] * 3, "none", ids),
            ("all frames of a video are of one size", [ids[0], np.zeros((32, 32), int)], "none", ids)):
        with pytest.raises(v.UserError, match=words):
            list(model.frames(maps, first, instances=instances))
    with pytest.raises(v.UserError, match="no run at"):
        v.load(tmp_path / "none")
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = v.laod


def test_dataset_gives_what_training_reads(shards: Path) -> None:
    cfg = small_config(shards)
    videos = v.ShardedVideos(shards / "full", 2, cfg, split="test")
    assert len(videos) == 2
    batch = next(iter(torch.utils.data.DataLoader(videos, batch_size=2)))
    assert batch["labels"].shape == (2, N_PAST + 2, 1, 32, 64)
    assert batch["images"].shape == (2, N_PAST + 2, 3, 32, 64)
    with pytest.raises(v.UserError, match="a chunk of 9 needs 11"):
        v.ShardedVideos(shards / "full", 9, cfg, split="test")


def test_generator_takes_plain_tensors(shards: Path) -> None:
    cfg = small_config(shards)
    generator = v.Generator(cfg)
    ids = torch.randint(6, (1, N_PAST + 2, 1, 32, 64))
    from_nothing = generator(ids, None, ids)
    assert from_nothing.fake.shape == (1, 2, 3, 32, 64)
    from_grey = generator(ids, torch.zeros(1, N_PAST, 3, 32, 64), ids)
    assert not torch.equal(from_grey.fake, from_nothing.fake)


def test_import_is_light() -> None:
    done = subprocess.run([sys.executable, "-c", "import sys, vid2vid_dist as v; v.__version__; print('torch' in "
                           "sys.modules, set(v._HOMES) <= set(dir(v)))"], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert done.stdout == "False True\n"


@pytest.mark.long
def test_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    cells = [cell for cell in json.loads((ROOT / "docs/api.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    script = io.StringIO()
    script.writelines("".join(cell["source"]) + "\n" for cell in cells)
    done = subprocess.run([sys.executable, "-c", script.getvalue()], cwd=tmp_path, capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "this model reads instance ids" in done.stdout
    assert Image.open(tmp_path / "made.png").size == (6 * 64, 32)
