"""Every recipe trains, and the planner takes it at full size."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.torchrun import ROOT, torchrun
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.face import render_toy_face
from vid2vid_dist.toy.pose import render_toy_pose
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

FOLDER = ROOT / "configs"
SECONDS = 900  # for all recipes of a task, on cores that others use, too
pytestmark = pytest.mark.timeout(SECONDS + 50)
STAGES = {
    "street": ["512", "512_no_fg", "512_batch", "1024", "2048", "2048_crop", "g1_256", "g1_512", "g1_1024",
               "modern/512", "modern/1024", "modern/2048"],
    "face": ["512", "512_bs7", "g1_256", "g1_512"],
    "pose": ["256", "512", "1024", "g1_256", "g1_512", "g1_1024"],
}
"""Each after the one that it starts from."""
SHARED = {"street": {"cityscapes", "256_cpu"}, "face": {"face"}, "pose": {"pose"}}
RENDER = {
    "street": (render_toy_street, ToyOptions(n_train=2, n_test=1, n_frames=10, width=256, height=128)),
    "face": (render_toy_face, ToyOptions(n_train=2, n_test=1, n_frames=10, width=96, height=72)),
    "pose": (render_toy_pose, ToyOptions(n_train=1, n_test=1, n_frames=8, width=160, height=80)),
}


@pytest.fixture(scope="module")
def roots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The runs of a task's recipes, trained on two ranks: those that are tested, and those that they start from."""
    chosen = {(params["task"], params["stage"]) for item in request.session.items
              if item.path == request.path and "stage" in (params := item.callspec.params)}

    @cache
    def train(task: str) -> Path:
        here = tmp_path_factory.mktemp(task)
        render, options = RENDER[task]
        render(here / "raw", options)
        make_shards(here / "raw", here / "shards", PackOptions(label_nc=35 * (task == "street"), task=task))
        last = max(number for number, stage in enumerate(STAGES[task]) if (task, stage) in chosen)
        job = torchrun(2, "tests/shrunken_recipes.py", str(here / "shards"), str(here / "runs"),
                       *(str(FOLDER / task / f"{stage}.yaml") for stage in STAGES[task][:last + 1]), timeout=SECONDS)
        assert job.returncode == 0, job.stdout
        return here / "runs"

    return train


def long_but_for(quick: tuple[str, str]) -> list[object]:
    rows = [(task, stage) for task in STAGES for stage in STAGES[task]]
    return [row if row == quick else pytest.param(*row, marks=pytest.mark.long) for row in rows]


@pytest.mark.parametrize("task", STAGES)
def test_no_recipe_is_left_out(task: str) -> None:
    found = {str(path.relative_to(FOLDER / task).with_suffix("")) for path in (FOLDER / task).rglob("*.yaml")}
    assert found == {*STAGES[task], *SHARED[task]}


@pytest.mark.parametrize(("task", "stage"), long_but_for(("pose", "256")))
def test_trains_over_a_switch_of_the_curriculum(roots: Callable[[str], Path], task: str, stage: str) -> None:
    run = roots(task) / load_config(FOLDER / task / f"{stage}.yaml").run.name
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
    lines = [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "losses" in line]
    assert {line["epoch"] for line in lines} == {1, 2}
    first, last = lines[0], lines[-1]
    assert last["n_frames_total"] > first["n_frames_total"] >= 2 * first["chunk_frames"]
