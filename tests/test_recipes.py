"""Every recipe trains, and the planner takes it at full size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.torchrun import ROOT, torchrun
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.toy_street import ToyOptions, render_toy_street

FOLDER = ROOT / "configs/street"
STAGES = ["512", "512_no_fg", "512_batch", "1024", "2048", "2048_crop", "g1_256", "g1_512", "g1_1024", "modern/512",
          "modern/1024", "modern/2048"]  # each after the one that it starts from


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of all recipes, trained on two ranks."""
    here = tmp_path_factory.mktemp("recipes")
    render_toy_street(here / "raw", ToyOptions(n_train=2, n_test=1, n_frames=10, width=256, height=128))
    make_shards(here / "raw", here / "shards", PackOptions(label_nc=35))
    job = torchrun(2, "tests/shrunken_recipes.py", str(here / "shards"), str(here / "runs"),
                   *(str(FOLDER / f"{stage}.yaml") for stage in STAGES), timeout=900)
    assert job.returncode == 0, job.stdout
    return here / "runs"


def test_no_recipe_is_left_out() -> None:
    found = {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml")}
    assert found == {*STAGES, "cityscapes", "256_cpu"}


@pytest.mark.parametrize("stage", STAGES)
def test_trains_over_a_switch_of_the_curriculum(root: Path, stage: str) -> None:
    run = root / load_config(FOLDER / f"{stage}.yaml").run.name
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
    lines = [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "step" in line]
    assert {line["epoch"] for line in lines} == {1, 2}
    first, last = lines[0], lines[-1]
    assert last["n_frames_total"] > first["n_frames_total"] >= 2 * first["chunk_frames"]
