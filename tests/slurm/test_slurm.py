"""The batch scripts under a real Slurm: they train, are preempted, come again, and end when the run has ended."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.damage import spoil_picture
from tests.slurm.cluster import LocalSlurm, missing
from tests.torchrun import ROOT, torchrun
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street
from vid2vid_dist.version import code_version

SHRUNK = [
    "data.loadSize=64", "data.use_instance=false", "generator.ngf=8", "generator.n_blocks=2",
    "generator.n_blocks_local=1", "generator.n_downsample_G=2", "generator.fg=false", "discriminator.ndf=4",
    "discriminator.num_D=1", "discriminator.n_scales_temporal=1", "loss.no_vgg=true", "flow.network=dis",
    "flow.weights=", "schedule.n_frames_total=4", "schedule.n_generator_slots=2", "schedule.niter=1000",
    "monitor.tensorboard=false",
    "monitor.pictures_every=0", "monitor.log_every=1", "run.device=cpu", "run.time_margin=0",
]
SCRIPTS = sorted((ROOT / "slurm").glob("train*.sbatch"))


@pytest.fixture(scope="module")
def slurm() -> Iterator[LocalSlurm]:
    if missing():
        pytest.skip(missing())
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
    with LocalSlurm(folder) as up:
        yield up
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("street")
    render_toy_street(root / "raw", ToyOptions(n_train=4, n_test=1, n_frames=8, width=64, height=32))
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35))
    return root / "shards"


def status(run: Path) -> dict:
    path = run / "status.json"
    return json.loads(path.read_text()) if path.is_file() else {"status": "none", "step": 0}


def steps_done(run: Path) -> int:
    path = run / "metrics.jsonl"
    return sum('"losses"' in line for line in path.read_text().splitlines()) if path.is_file() else 0


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("step_*"))


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck: apt-get install shellcheck")
def test_scripts_are_clean() -> None:
    files = [*sorted((ROOT / "slurm").iterdir())]
    result = subprocess.run(["shellcheck", "-x", *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_accepted(slurm: LocalSlurm, script: Path, nodes: int) -> None:
    for gpus in (4, 8):
        slurm.run("sbatch", "--test-only", f"--nodes={nodes}", f"--gpus-per-node={gpus}", str(script), "run.name=try")


def test_chain_waits_for_the_stage_before(slurm: LocalSlurm, tmp_path: Path) -> None:
    """Submitted with nowhere to run: only what the jobs ask for is looked at."""
    given = {"VENV": sys.prefix, "RUNS_DIR": str(tmp_path / "my runs"), "SBATCH_HOLD": "1"}
    said = slurm.run("slurm/chain.sh", "schedule.niter=1", f"data.shards=$(touch {tmp_path}/x) `touch {tmp_path}/x`",
                     SBATCH_OUTPUT="/dev/null", **given)
    jobs = [line.split("job ")[1].split(",")[0] for line in said.splitlines()]
    assert len(jobs) == 3
    try:
        for job, before, name in zip(jobs, [None, *jobs], ("512", "1024", "2048"), strict=False):
            state = slurm.state(job)
            assert state["JobName"] == f"street_{name}"
            assert state["Dependency"] == (f"afterok:{before}(unfulfilled)" if before else "(null)")
        assert slurm.state(jobs[-1])["Command"] == str(ROOT / "slurm/train.sbatch")
        assert not (tmp_path / "x").exists()
    finally:
        slurm.run("scancel", *jobs)


@pytest.mark.fault(
    "Files",
    "names with commands of a shell, in a batch script",
    "are names",
    "nothing")
@pytest.mark.long
def test_any_configuration_from_any_folder(slurm: LocalSlurm, shards: Path, tmp_path: Path) -> None:
    """A file of one's own beside the data, which is named from there; the run is told the commit of its code.

    No name is a command of the shell's.
    """
    name = "mine $(touch hacked) `touch hacked`; touch hacked"
    (tmp_path / "mine.yaml").write_text(f"base: street/1024\nrun:\n  name: {name}\n  load_pretrain: ''\n")
    (tmp_path / "data").symlink_to(shards.parent)
    job = slurm.submit(str(ROOT / "slurm/train.sbatch"), "mine.yaml", *SHRUNK, "data.shards=data/shards",
                       "run.max_steps=2", RANKS_PER_NODE="2", cwd=tmp_path)
    state = slurm.wait_for_end(job, 180)
    assert state["JobState"] == "COMPLETED", (slurm.folder / f"{job}.out").read_text()
    assert status(tmp_path / "runs" / name)["status"] == "finished"
    assert not list(tmp_path.rglob("hacked"))
    (commit,) = (tmp_path / "runs" / name / "code").glob("*/vid2vid_dist/commit.json")
    assert json.loads(commit.read_text()) == code_version()


@pytest.mark.fault(
    "Surroundings",
    "srun starts several tasks of a command, without torchrun",
    "one line of each: it would train alone",
    "nothing")
def test_srun_without_torchrun_is_refused(slurm: LocalSlurm, tmp_path: Path) -> None:
    slurm.run("srun", "-N1", "-n2", f"--output={tmp_path}/said", sys.executable, str(ROOT / "launch/train.py"),
              f"run.root={tmp_path}/runs", check=False)
    lines = (tmp_path / "said").read_text().splitlines()
    assert len([line for line in lines if "error: srun has started 2 tasks, each of which would train" in line]) == 2
    assert not (tmp_path / "runs").exists()


def test_preempted_by_signal_then_finished(slurm: LocalSlurm, shards: Path, tmp_path: Path) -> None:
    """The signal of --signal reaches the batch script; the job is requeued, goes on, and is not requeued again.

    A file that asked an earlier job to end is not for this one. YAML quotes the run's name.
    """
    run = tmp_path / "2024-01-05"
    run.mkdir()
    (run / "preempt").touch()
    job = slurm.submit("slurm/train_512.sbatch", *SHRUNK, f"data.shards={shards}", "run.name=2024-01-05",
                       "run.max_steps=100", RANKS_PER_NODE="2", RUNS_DIR=str(tmp_path))
    out = slurm.folder / f"{job}.out"
    slurm.wait(lambda: steps_done(run) >= 2, 120, out)
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    slurm.wait(lambda: status(run)["status"] == "preempted", 60, out)
    saved = status(run)["step"]
    assert 2 <= saved < 100
    state = slurm.wait_for_end(job, 180)
    said = out.read_text()
    assert (state["JobState"], state["Restarts"]) == ("COMPLETED", "1"), said
    assert f"resumed from {run}/checkpoints/step_{saved:08d}: step {saved}" in said
    assert {key: status(run)[key] for key in ("status", "step", "restarts")} == {
        "status": "finished", "step": 100, "restarts": 1}
    assert checkpoints(run)[-1] == "step_00000100"
    assert "derived: run.root=" in said
    assert len(list((run / "code").iterdir())) == 1
    assert len(list((run / "logs").rglob("stdout.log"))) == 2 * 2


@pytest.mark.fault(
    "A run ends",
    "the end of a Slurm job",
    "saves before it and comes again",
    "nothing")
@pytest.mark.long
@pytest.mark.timeout(480)
def test_one_pipeline_over_two_nodes_is_preempted_by_its_time(slurm: LocalSlurm, shards: Path, tmp_path: Path) -> None:
    """It comes again where it was, until somebody stops it. Both nodes hold one rank of the pipeline."""
    run = tmp_path / "time"
    job = slurm.submit("slurm/train_2048.sbatch", *SHRUNK, f"data.shards={shards}", "run.name=time",
                       "run.load_pretrain=", "run.time_margin=1.8",  # it ends as soon as it is up, within two minutes
                       options=("--nodes=2", "--time=2", "--signal=B:USR1@1"),
                       RANKS_PER_NODE="1", RUNS_DIR=str(tmp_path))
    out = slurm.folder / f"{job}.out"
    slurm.wait(lambda: status(run).get("restarts") == 1, 240, out)
    saved = status(run)["step"]
    assert checkpoints(run)[-1] == f"step_{saved:08d}"
    (run / "stop").touch()
    state = slurm.wait_for_end(job, 150)
    said = out.read_text()
    assert (state["JobState"], state["ExitCode"], state["Restarts"]) == ("FAILED", "3:0", "1"), said
    assert f"preempted after step {saved}: end of the Slurm job near" in said
    assert f"resumed from {run}/checkpoints/step_{saved:08d}" in said
    assert "node 1  pipeline 0  slot 1  rank   1  all roles" in said
    assert (status(run)["status"], status(run)["why"]) == ("stopped", "file `stop`")
    assert status(run)["step"] > saved


def ranks_of(job: str) -> list[int]:
    """The processes of a job's ranks."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            known = path.read_bytes().split(b"\0")
            if f"SLURM_JOB_ID={job}".encode() in known and any(word.startswith(b"RANK=") for word in known):
                found.append(int(path.parent.name))
    return found


@pytest.mark.fault(
    "A run ends",
    "a Slurm job is signalled, loses a rank, is requeued, one after the other",
    "comes back each time; the run that nobody disturbed, bit by bit",
    "steps since the last checkpoint, where a rank was killed")
@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_job_under_faults_is_the_run_that_nobody_disturbed(
        slurm: LocalSlurm, shards: Path, tmp_path: Path) -> None:
    """All kinds of end that a job comes back from, one after the other, each after something has been saved."""
    settings = [*SHRUNK, f"data.shards={shards}", "run.max_steps=80", "run.save_every_steps=2"]
    job = slurm.submit("slurm/train_512.sbatch", *settings, "run.name=ended", RANKS_PER_NODE="2",
                       RUNS_DIR=str(tmp_path))
    run, out = tmp_path / "ended", slurm.folder / f"{job}.out"
    faults = {
        "signal to the batch script": lambda: slurm.run("scancel", "--batch", "--signal=USR1", job),
        "signal to the tasks": lambda: slurm.run("scancel", "--signal=USR2", job),
        "rank killed": lambda: os.kill(random.choice(ranks_of(job)), signal.SIGKILL),
        "requeued": lambda: slurm.run("scontrol", "requeue", job),
    }
    order = random.sample(list(faults), len(faults))
    for fault in order:
        saved, lives = status(run)["step"], status(run).get("restarts", -1)
        slurm.wait(lambda saved=saved: status(run)["step"] > saved and len(ranks_of(job)) >= 2, 200, out)
        faults[fault]()
        slurm.wait(lambda lives=lives: status(run).get("restarts", -1) > max(lives, 0), 200, out)
    state = slurm.wait_for_end(job, 300)
    said = out.read_text()
    assert state["JobState"] == "COMPLETED", said
    assert (status(run)["status"], status(run)["step"]) == ("finished", 80), said
    print(f"{', '.join(order)}: {status(run)['restarts']} resumes, goodput {80 / steps_done(run):.0%}")
    alone = torchrun(2, "launch/train.py", "street/512", *settings, f"run.root={tmp_path}",
                     "run.name=undisturbed", timeout=300)
    assert alone.returncode == 0, alone.stdout
    found, wanted = (load_file(tmp_path / name / "checkpoints/step_00000080/generator.safetensors")
                     for name in ("ended", "undisturbed"))
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


@pytest.mark.long
def test_a_job_that_cannot_go_on_ends(slurm: LocalSlurm, shards: Path, tmp_path: Path) -> None:
    """An error that would come again is not tried again."""
    shutil.copytree(shards, tmp_path / "shards")
    spoil_picture(tmp_path / "shards")
    job = slurm.submit("slurm/train_512.sbatch", *SHRUNK, f"data.shards={tmp_path / 'shards'}", "run.name=error",
                       "data.shuffle=false", RANKS_PER_NODE="2", RUNS_DIR=str(tmp_path))
    state = slurm.wait_for_end(job, 120)
    said = (slurm.folder / f"{job}.out").read_text()
    assert (state["JobState"], state["ExitCode"], state["Restarts"]) == ("FAILED", "1:0", "0"), said
    assert "unreadable image" in status(tmp_path / "error")["why"]
    assert "starting again" not in said
    assert "no progress, giving up" in said
