"""Training with roles on several ranks, by the command that users type."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.damage import spoil_picture
from tests.torchrun import torchrun
from tests.training.conftest import SMALL

COMMON = ["schedule.n_frames_total=6", "schedule.n_generator_slots=2", "monitor.log_every=1", "data.workers=1",
          "generator.n_scales_spatial=2"]
STEPS = 5


@pytest.fixture
def train(shards: Path, tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """train(ranks, name, overrides) -> the weights after five steps; runs that have begun go on."""
    def run(ranks: int, name: str, *overrides: str) -> dict[str, Tensor]:
        where = [f"data.shards={shards}", f"run.root={tmp_path}", f"run.name={name}", f"run.max_steps={STEPS}"]
        result = torchrun(ranks, "launch/train.py", "configs/base.yaml", *SMALL, *COMMON, *where, *overrides)
        assert result.returncode == 0, result.stdout
        folder = tmp_path / name / "checkpoints"
        files = sorted((folder / (folder / "latest").read_text().strip()).glob("*.safetensors"))
        return {f"{file.stem}.{key}": x for file in files for key, x in load_file(file).items()}
    return run


def losses(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["losses"] for line in lines if "losses" in line]


def events(folder: Path) -> list[str]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["event"] for line in lines if "event" in line]


@pytest.mark.long
@pytest.mark.parametrize("stage", [1, pytest.param(2, marks=pytest.mark.full)])
def test_a_run_that_stopped_in_the_middle_of_clips_goes_on_bit_by_bit(train, stage: int) -> None:
    """Discriminator ranks do not hold the generator: each role is saved and read by its holders."""
    placed = ("parallel.placement=split:2+1", f"optim.zero_stage={stage}")
    whole = train(3, "whole", *placed)
    train(3, "halves", *placed, "run.max_steps=2")
    halves = train(3, "halves", *placed)
    assert whole.keys() == halves.keys()
    assert all(whole[key].equal(halves[key]) for key in whole)


def test_placement_changes_no_loss(train, tmp_path: Path) -> None:
    """Adam in fp64: what a step sees does not depend on who computes it."""
    plain = ("optim.backend=plain", "optim.precision=fp64")
    train(2, "data_parallel", *plain)
    train(2, "split", *plain, "parallel.placement=split:1+1", "monitor.pictures_every=2")
    reference, found = (losses(tmp_path / name) for name in ("data_parallel", "split"))
    assert len(reference) == len(found) == STEPS
    for a, b in zip(reference, found, strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)
    assert (tmp_path / "split/web/media/step_00000004/first.png").is_file()


@pytest.mark.long
def test_unreadable_frames_are_left_out_alike_by_placed_ranks(train, shards: Path, tmp_path: Path) -> None:
    """One rank generates, the other judges: both give up the same clips as ranks that each work on their own."""
    shutil.copytree(shards, tmp_path / "shards")
    spoil_picture(tmp_path / "shards", video=1)
    plain = (f"data.shards={tmp_path / 'shards'}", "data.max_faults=3", "optim.backend=plain", "optim.precision=fp64")
    train(2, "data_parallel", *plain)
    train(2, "split", *plain, "parallel.placement=split:1+1")
    reference, found = (losses(tmp_path / name) for name in ("data_parallel", "split"))
    assert len(reference) == len(found) == STEPS
    for a, b in zip(reference, found, strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)
    told = [[event for event in events(tmp_path / name) if "left out" in event] for name in ("data_parallel", "split")]
    assert told[0]
    assert [event.partition(": images of")[0] for event in told[0]] == [
        event.partition(": images of")[0] for event in told[1]]
    assert "street0001/frame000002" in told[1][0]


@pytest.mark.long
def test_more_unreadable_frames_than_allowed_end_placed_ranks(shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "shards")
    for video in range(3):
        spoil_picture(tmp_path / "shards", video)
    result = torchrun(2, "launch/train.py", "configs/base.yaml", *SMALL, *COMMON, f"data.shards={tmp_path / 'shards'}",
                      f"run.root={tmp_path}", "run.name=try", "data.max_faults=1", "parallel.placement=split:1+1")
    assert result.returncode
    assert "more frames cannot be read than data.max_faults=1 allows; the last: images of street" in result.stdout
    assert 'trainer.py", line' not in result.stdout


@pytest.mark.long
def test_a_placement_that_cannot_be_is_refused_with_one_that_can(shards: Path, tmp_path: Path) -> None:
    result = torchrun(2, "launch/train.py", "configs/base.yaml", *SMALL, f"data.shards={shards}",
                      f"run.root={tmp_path}", "parallel.placement=split:2+1")
    assert result.returncode
    assert "the nearest is split:1+1" in result.stdout
