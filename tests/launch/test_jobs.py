"""Whole jobs with networks on ranks of their own: how they start, and how they end when a rank does not go on."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.torchrun import pid_of_rank, start_torchrun, torchrun, wait_until
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

TINY = ["data.loadSize=64", "generator.ngf=4", "generator.n_blocks=2", "generator.n_downsample_G=2",
        "discriminator.ndf=4", "discriminator.num_D=1", "discriminator.n_scales_temporal=1", "loss.no_vgg=true",
        "schedule.n_frames_total=6", "monitor.tensorboard=false", "monitor.pictures_every=0"]
PLACED = ["parallel.placement=split:2+2", "schedule.n_generator_slots=2", "monitor.log_every=1"]
END = 60  # seconds in which a job ends that has lost a rank


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("street")
    render_toy_street(root / "raw", ToyOptions(n_train=8, n_test=1, n_frames=8, width=64, height=32))
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35))
    return root / "shards"


@pytest.fixture
def arguments(shards: Path, tmp_path: Path) -> list[str]:
    return [*TINY, f"data.shards={shards}", f"run.root={tmp_path}", "run.name=try", "run.device=cpu"]


def status(root: Path) -> dict:
    return json.loads((root / "try/status.json").read_text())


def steps_done(root: Path) -> int:
    path = root / "try/metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return sum('"losses"' in line for line in lines)


@pytest.mark.long
def test_bare_start_on_eight_ranks_splits(arguments: list[str], tmp_path: Path) -> None:
    """No configuration file and no placement are named."""
    result = torchrun(8, "launch/train.py", *arguments, "run.max_steps=2")
    assert result.returncode == 0, result.stdout
    rows = re.findall(r"^node 0  pipeline \d  slot \d  rank +\d  (.*)$", result.stdout, re.MULTILINE)
    assert len(rows) == 8
    assert {row.split()[0] for row in rows} == {"generator", "image"}
    assert status(tmp_path)["status"] == "finished"


@pytest.mark.fault(
    "A run ends",
    "SIGKILL to one rank (the kernel's, for want of memory)",
    "the others end; \"failed\", cause \"lost rank\"",
    "steps since the last checkpoint")
def test_killed_rank_ends_the_job(arguments: list[str], tmp_path: Path) -> None:
    job = start_torchrun(4, "launch/train.py", "configs/base.yaml", *arguments, *PLACED)
    wait_until(lambda: steps_done(tmp_path) >= 2)
    os.kill(pid_of_rank(job, 2), signal.SIGKILL)
    killed = time.monotonic()
    said, _ = job.communicate(timeout=END)
    assert time.monotonic() - killed < END
    assert job.returncode
    assert re.search(r"rank +: 2 \(local_rank: 2\)", said)
    assert "SIGKILL" in said
    outcome = status(tmp_path)
    assert outcome["status"] == "failed"
    assert outcome["cause"] == "lost rank"
    assert re.match(r"step \d+, rank [013]: ", outcome["why"]), outcome


@pytest.mark.long
def test_broken_task_ends_the_job_and_is_named(arguments: list[str], tmp_path: Path) -> None:
    result = torchrun(4, "tests/launch/failing_task.py", "configs/base.yaml", *arguments, *PLACED, timeout=END + 60)
    assert result.returncode
    assert re.search(r"TaskError: step 3, image \w+ lane \d.*: the discriminator is ill", result.stdout), result.stdout
    outcome = status(tmp_path)
    assert (outcome["status"], outcome["cause"]) == ("failed", "error")
    assert re.match(r"rank 2: step 3, .*: the discriminator is ill", outcome["why"]), outcome


@pytest.mark.fault(
    "A run ends",
    "a step that finds no memory",
    "\"failed\", with the knob to turn",
    "steps since the last checkpoint")
@pytest.mark.long
def test_task_without_memory_is_told_with_the_planners_numbers(arguments: list[str], tmp_path: Path) -> None:
    result = torchrun(2, "tests/launch/exhausted_task.py", "configs/base.yaml", *arguments, "monitor.log_every=1",
                      "parallel.placement=split:1+1", "schedule.n_generator_slots=2", timeout=END + 60)
    assert result.returncode
    assert re.search(r"\[rank 1\] error: out of memory: step 3, image \w+ lane \d.*allocate 4503599627370496 bytes.*"
                     r"The planner expects 2\.0\d GB on this rank \(weights, gradients .* context 2\.00\); most of it "
                     r"is critics: try discriminator\.frames_per_pass=1", result.stdout), result.stdout
    assert 'trainer.py", line' not in result.stdout
    assert status(tmp_path)["why"].startswith("rank 1: out of memory")


@pytest.mark.long
@pytest.mark.parametrize(("place", "awaited"), [
    ("task", " of rank 2"),
    pytest.param("reduction", "gradients of all ranks", marks=pytest.mark.full),
    pytest.param("report", "losses of all ranks", marks=pytest.mark.full),
])
def test_silent_rank_is_named_by_those_who_wait(
        arguments: list[str], tmp_path: Path, place: str, awaited: str) -> None:
    """Wherever it has stopped: the message that does not come names it only if it is a task's."""
    job = start_torchrun(4, "tests/launch/silent_rank.py", "configs/base.yaml", *arguments, *PLACED,
                         "parallel.timeout=0.25", SILENT=place)
    try:
        wait_until(lambda: (tmp_path / "try/status.json").is_file() and status(tmp_path)["status"] == "failed", 240)
    finally:
        os.kill(pid_of_rank(job, 2), signal.SIGKILL)  # torchrun would give it half a minute to end
        said, _ = job.communicate(timeout=END)
    assert job.returncode
    found = re.search(r"nothing has gone on for 8 s: (no heartbeat of rank 2 \(step \d, .*\): .*)\. Stacks", said)
    assert found, said
    outcome = status(tmp_path)
    assert outcome["cause"] == "lost rank"
    assert outcome["why"].startswith(f"{found[1]}; step 3, rank "), outcome
    assert re.search(rf"rank [013]: .*{awaited}: .*[Tt]imed out", outcome["why"]), outcome
    stacks = sorted(path.name for path in (tmp_path / "try/watch").glob("*.stacks.txt"))
    assert stacks == [f"rank_{rank:05d}.stacks.txt" for rank in (0, 1, 3)]
    assert "trainer.py" in (tmp_path / "try/watch" / stacks[0]).read_text()


@pytest.mark.long
def test_nonfinite_gradient_of_one_rank_keeps_the_weights_of_all(arguments: list[str], tmp_path: Path) -> None:
    """The first is left out by all ranks, the second ends the run: no role was updated, on no rank."""
    result = torchrun(4, "tests/launch/nonfinite_gradient.py", "configs/base.yaml", *arguments, *PLACED,
                      "optim.max_nonfinite=1", "run.save_every_steps=1", "schedule.max_frames_backpropagate=2")
    assert result.returncode
    assert "step 3: not finite: rank 2: gradient of image: left out" in result.stdout, result.stdout
    assert re.search(r"rank \d: step 5: not finite: rank 2: gradient of image\. No weight", status(tmp_path)["why"])
    faults, checkpoint = tmp_path / "try/faults/step_00000005", tmp_path / "try/checkpoints/step_00000004"
    for role in ("generator", "image", "temporal_0"):
        before, after = (load_file(folder / f"{role}.safetensors") for folder in (checkpoint, faults))
        weights = [name for name in before if name.endswith((".weight", ".bias"))]
        assert weights
        assert all(after[name].equal(before[name]) for name in weights)
    told = [json.loads((faults / f"rank_{rank:05d}.json").read_text()) for rank in range(4)]
    assert [each["nonfinite"] for each in told] == [[], [], ["gradient of image"], []]
    assert sorted(path.name for path in (tmp_path / "try/checkpoints").glob("step_*"))[-1] == checkpoint.name
