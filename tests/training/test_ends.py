"""A run ends saved and its status says why, whatever ends it: real torchrun, real signals, a real terminal."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.torchrun import ROOT, pid_of_rank, start_torchrun, wait_until
from tests.training.conftest import SMALL
from vid2vid_dist.training.checkpoint import newest_checkpoint
from vid2vid_dist.training.status import tell

ENDLESS = [*SMALL, "schedule.niter=3000", "schedule.n_frames_total=4", "schedule.max_frames_per_rank=2",
           "discriminator.num_D=1", "optim.backend=plain", "run.name=try", "monitor.log_every=1"]
PATIENCE = 60  # seconds within which ranks end by themselves, on shared cores


@pytest.fixture
def arguments(shards: Path, tmp_path: Path) -> list[str]:
    return [str(ROOT / "configs/base.yaml"), *ENDLESS, f"data.shards={shards}", f"run.root={tmp_path}"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "try"


def status(run: Path) -> dict:
    return json.loads((run / "status.json").read_text())


def trains(run: Path) -> bool:
    path = run / "metrics.jsonl"
    return path.is_file() and path.read_text().count('"losses"') >= 2


def is_gone(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    try:
        return path.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def start(arguments: list[str], run: Path) -> Iterator[Callable[[], tuple[subprocess.Popen, list[int]]]]:
    """Start two ranks and wait until they train; whatever is left of them at the end of the test is killed."""
    pids: list[int] = []

    def two_ranks() -> tuple[subprocess.Popen, list[int]]:
        job = start_torchrun(2, "launch/train.py", *arguments)
        pids.append(job.pid)
        wait_until(lambda: trains(run), 240)
        pids.extend(pid_of_rank(job, rank) for rank in (0, 1))
        return job, pids[1:]

    yield two_ranks
    for pid in reversed(pids):
        if not is_gone(pid):
            os.kill(pid, signal.SIGTERM if pid == pids[0] else signal.SIGKILL)


def assert_saved(run: Path, *why: str) -> None:
    """The newest checkpoint is whole, and is that of the last step."""
    told = status(run)
    assert told["status"] == "preempted"
    assert told["why"] in why
    saved = newest_checkpoint(run)
    assert saved is not None
    assert json.loads((saved / "state.json").read_text())["position"]["step"] == told["step"] >= 2
    assert f"preempted, epoch {told['epoch']}, saved at step {told['step']}: {told['why']}" in tell(run)


@pytest.mark.fault(
    "A run ends",
    "SIGTERM, SIGQUIT (Ctrl-\\\\) or SIGHUP to torchrun",
    "it hands them on; the ranks save after the step under way and end as \"preempted\". torchrun waits 30 s "
    "(`--shutdown-timeout`)",
    "nothing")
@pytest.mark.parametrize("number", [
    signal.SIGHUP, *(pytest.param(s, marks=pytest.mark.long) for s in (signal.SIGQUIT, signal.SIGTERM))])
def test_signal_to_torchrun(start: Callable, run: Path, number: signal.Signals) -> None:
    """It hands these on to its ranks and waits for them."""
    job, _ = start()
    job.send_signal(number)
    said, _ = job.communicate(timeout=60)
    assert_saved(run, number.name)
    assert "Traceback" not in said.split("Sending process")[0]


@pytest.mark.fault(
    "A run ends",
    "SIGUSR1, SIGUSR2 or SIGQUIT to a rank (`sbatch --signal`, `scancel --signal`)",
    "all ranks save and end",
    "nothing")
@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT])
def test_signal_to_one_rank(start: Callable, run: Path, number: signal.Signals) -> None:
    job, pids = start()
    os.kill(pids[1], number)
    job.communicate(timeout=60)
    assert job.returncode == 0
    assert_saved(run, number.name)


@pytest.mark.fault(
    "A run ends",
    "SIGUSR1, SIGUSR2 or SIGKILL to torchrun, which ends it",
    "its ranks see that it is gone, save and end. Under Slurm the step ends with torchrun, and its ranks at once: "
    "let torchrun take them with `--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2`, or send them "
    "to the batch script (`--signal=B:USR1@300`), as slurm/ does",
    "nothing; a start meanwhile waits")
@pytest.mark.parametrize("number", [
    signal.SIGKILL, *(pytest.param(s, marks=pytest.mark.long) for s in (signal.SIGUSR1, signal.SIGUSR2))])
def test_torchrun_dies(start: Callable, arguments: list[str], run: Path, number: signal.Signals) -> None:
    """Its ranks see it, save and end; who starts the run again meanwhile goes on from there."""
    job, pids = start()
    job.send_signal(number)
    job.wait()
    again = start_torchrun(1, "launch/train.py", *arguments, f"run.max_steps={10**6}")
    try:
        wait_until(lambda: all(map(is_gone, pids)), PATIENCE)
        wait_until(lambda: "resumed from" in (run / "metrics.jsonl").read_text(), 60)
    finally:
        again.send_signal(signal.SIGTERM)
        said, _ = again.communicate(timeout=60)
    events = (run / "metrics.jsonl").read_text()
    assert "preempted after step" in events
    assert "the torchrun of these ranks is gone" in events
    assert status(run)["restarts"] == 1
    assert "error: " not in said
    assert "FileNotFoundError" not in said


@pytest.mark.fault(
    "A run ends",
    "the terminal closes, also under `nohup`: torchrun does not heed it. Start under `setsid` or in tmux to go on",
    "as above",
    "nothing")
@pytest.mark.long
@pytest.mark.parametrize("how", ["plain", "nohup"])
def test_terminal_closes(arguments: list[str], run: Path, how: str) -> None:
    """The kernel sends SIGHUP to all of its foreground, and nothing can be printed any more; nohup writes a file."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
               str(ROOT / "launch/train.py"), *arguments]
    pid, terminal = pty.fork()
    if pid == 0:  # a shell with the job in its foreground
        os.chdir(run.parent)
        os.environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        os.execvp(command[0] if how == "plain" else "nohup", command if how == "plain" else ["nohup", *command])
    end = time.monotonic() + 120
    os.set_blocking(terminal, False)
    while not trains(run) and time.monotonic() < end:
        try:
            os.read(terminal, 2**16)
        except OSError:  # nothing to read yet, or everything goes elsewhere
            time.sleep(0.1)
    os.close(terminal)
    wait_until(lambda: status(run)["status"] != "running", 60)
    os.waitpid(pid, 0)
    assert_saved(run, "SIGHUP", "SIGTERM", "the torchrun of these ranks is gone")


@pytest.mark.fault(
    "A run ends",
    "SIGHUP to `nohup python launch/train.py`",
    "goes on, as nohup means it",
    "nothing")
@pytest.mark.long
def test_a_python_alone_under_nohup_goes_on(arguments: list[str], run: Path) -> None:
    """As is meant by it; torchrun cannot be told so."""
    job = subprocess.Popen(["nohup", sys.executable, "launch/train.py", *arguments], cwd=ROOT,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: trains(run), 240)
    job.send_signal(signal.SIGHUP)
    time.sleep(2)
    assert status(run)["status"] == "running"
    assert "running, step" in tell(run)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 0
    assert_saved(run, "SIGTERM")


@pytest.mark.fault(
    "A run ends",
    "SIGKILL to a run on one rank",
    "`python -m vid2vid_dist status` says \"dead\"",
    "steps since the last checkpoint")
def test_a_killed_run_is_told_from_a_running_one(arguments: list[str], run: Path) -> None:
    job = subprocess.Popen([sys.executable, "launch/train.py", *arguments, "run.save_every_steps=1"], cwd=ROOT,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: trains(run) and newest_checkpoint(run) is not None, 240)
    assert "running, step" in tell(run)
    job.kill()
    job.wait()
    assert status(run)["status"] == "running"
    assert "dead: killed near step" in tell(run)
    assert newest_checkpoint(run) is not None


@pytest.mark.fault(
    "A run ends",
    "a rank that is frozen",
    "the others wait for `parallel.timeout`, name it, and end",
    "steps since the last checkpoint")
@pytest.mark.long
def test_a_frozen_rank(arguments: list[str], run: Path) -> None:
    """The others give up waiting; torchrun kills what does not end by itself."""
    job = start_torchrun(2, "launch/train.py", *arguments, "parallel.timeout=0.2", "run.save_every_steps=1")
    wait_until(lambda: trains(run), 240)
    os.kill(pid_of_rank(job, 1), signal.SIGSTOP)
    job.communicate(timeout=150)
    assert job.returncode
    told = status(run)
    assert (told["status"], told["cause"]) == ("failed", "lost rank")
    assert "no heartbeat of rank 1" in told["why"]
    assert newest_checkpoint(run) is not None


@pytest.mark.fault(
    "A run ends",
    "a signal before the first step",
    "ends, \"preempted\"",
    "nothing")
@pytest.mark.long
def test_a_signal_before_the_first_step(arguments: list[str], run: Path) -> None:
    """There is nothing to save; the status does not stay "running"."""
    job = subprocess.Popen([sys.executable, "launch/train.py", *arguments], cwd=ROOT, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: (run / "status.json").is_file())
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=60)
    assert status(run)["status"] == "preempted"
    assert "Traceback" not in said
