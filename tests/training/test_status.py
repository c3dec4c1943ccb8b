"""`status.json` says what is nearest to the root of a failure, in whatever order the ranks fail."""

import fcntl
import itertools
import json
import multiprocessing
import os
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from vid2vid_dist.cli import failures
from vid2vid_dist.cli import status as command
from vid2vid_dist.errors import LostRankError
from vid2vid_dist.training import status
from vid2vid_dist.training.checkpoint import Position
from vid2vid_dist.training.preemption import Ask, Interrupted
from vid2vid_dist.training.status import Status

ILL = ValueError("the discriminator is ill")
SILENT = LostRankError("step 3, rank 0: image of rank 2: Timed out waiting 15000ms for recv operation to complete")
BEHIND = LostRankError("step 3, rank 1: waiting for flow of rank 0: Timed out waiting 15000ms\n-> flow of rank 2: 4")
BROKEN = LostRankError("step 3, rank 1: flow of rank 0: Connection closed by peer [127.0.0.1]:4711")


@pytest.mark.parametrize("order", list(itertools.permutations([(0, SILENT), (1, BROKEN), (2, ILL)])), ids=str)
def test_nearest_to_the_root_is_told(tmp_path: Path, order: list[tuple[int, Exception]]) -> None:
    for rank, error in order:
        Status(tmp_path, rank, 0).write_failure(error, None)
    told = json.loads((tmp_path / "status.json").read_text())
    assert (told["cause"], told["why"]) == ("error", f"rank 2: {ILL}")


@pytest.mark.parametrize("order", list(itertools.permutations([(0, SILENT), (1, BROKEN)])), ids=str)
def test_silence_is_nearer_than_a_broken_connection(tmp_path: Path, order: list[tuple[int, Exception]]) -> None:
    """A rank that has waited in vain leaves, and breaks the connections of the others."""
    for rank, error in order:
        Status(tmp_path, rank, 0).write_failure(error, None, finding="no heartbeat of rank 2")
    told = json.loads((tmp_path / "status.json").read_text())
    assert (told["cause"], told["why"]) == ("lost rank", f"no heartbeat of rank 2; {SILENT}")


@pytest.mark.parametrize("order", list(itertools.permutations([(0, SILENT), (1, BEHIND)])), ids=str)
def test_the_rank_without_a_heartbeat_is_nearest(tmp_path: Path, order: list[tuple[int, Exception]]) -> None:
    """All wait in vain, and who began to wait first says so first."""
    for rank, error in order:
        Status(tmp_path, rank, 0).write_failure(error, None, finding="no heartbeat of rank 2 (step 3): stopped")
    why = json.loads((tmp_path / "status.json").read_text())["why"]
    assert why == f"no heartbeat of rank 2 (step 3): stopped; {SILENT}"


def test_of_equal_ones_the_first_is_told(tmp_path: Path) -> None:
    for rank in (3, 0):
        Status(tmp_path, rank, 0).write_failure(ValueError(f"bad input of rank {rank}"), None)
    assert json.loads((tmp_path / "status.json").read_text())["why"] == "rank 3: bad input of rank 3"


def fail_together(root: Path, rank: int, meet: Barrier, n_runs: int) -> None:
    """A rank of several runs; in each, one rank knows the cause and the others have lost it."""
    for number in range(n_runs):
        run = root / str(number)
        error = ILL if rank == number % meet.parties else BROKEN
        meet.wait(60)
        Status(run, rank, 0).write_failure(error, None)


@pytest.mark.fault(
    "A run ends",
    "several ranks fail at the same time",
    "status.json names the cause, not who lost whom",
    "steps since the last checkpoint")
def test_the_cause_is_told_of_ranks_that_fail_at_the_same_time(tmp_path: Path) -> None:
    """Processes of their own: what one has read, another must not write over before it has written."""
    n_ranks, n_runs = 3, 20
    for number in range(n_runs):
        (tmp_path / str(number)).mkdir()
    processes = multiprocessing.get_context("fork")  # at once: importing torch three times takes long
    meet = processes.Barrier(n_ranks)
    ranks = [processes.Process(target=fail_together, args=(tmp_path, rank, meet, n_runs)) for rank in range(n_ranks)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        assert rank.exitcode == 0
    told = [json.loads((tmp_path / str(number) / "status.json").read_text())["cause"] for number in range(n_runs)]
    assert told == ["error"] * n_runs


def test_who_keeps_the_lock_does_not_hang_a_rank_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen rank keeps it."""
    monkeypatch.setattr(status, "PATIENCE", 0.3)
    frozen = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(frozen, fcntl.LOCK_EX)
    started = time.monotonic()
    Status(tmp_path, 1, 0).write_failure(ILL, None)
    os.close(frozen)
    assert 0.3 < time.monotonic() - started < 10
    assert json.loads((tmp_path / "status.json").read_text())["why"] == f"rank 1: {ILL}"


def test_a_failure_stays_when_the_other_ranks_are_ended_for_it(tmp_path: Path) -> None:
    """torchrun sends SIGTERM; a save may just have come to its end."""
    Status(tmp_path, 1, 0).write_failure(ILL, None)
    Status(tmp_path, 0, 0).write_failure(Interrupted(Ask.SIGTERM), None)
    Status(tmp_path, 0, 0).write_running(Position(4))
    assert json.loads((tmp_path / "status.json").read_text())["why"] == f"rank 1: {ILL}"


def test_the_traceback_is_in_the_runs_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        1 // 0  # noqa: B018
    Status(tmp_path, 2, 0).write_failure(caught.value, Position(4))
    assert failures.tell(caught.value).endswith(f"traceback: {tmp_path / 'errors/rank_00002.txt'}")
    assert "1 // 0" in (tmp_path / "errors/rank_00002.txt").read_text()


def test_the_command_tells_all_runs(
        tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [tmp_path / name for name in ("a", "b", "none")]
    for run, (status_, step) in zip(runs, (("finished", 8), ("failed", 3)), strict=False):
        run.mkdir()
        Status(run, 0, 0).write(status_, Position(step), **({"why": "rank 0: ill"} if step == 3 else {}))
    monkeypatch.setattr("sys.argv", ["status", *map(str, runs)])
    assert command.main() == 2
    assert capsys.readouterr().out.splitlines() == [
        f"{runs[0]}: finished, epoch 1, saved at step 8", f"{runs[1]}: failed, epoch 1, saved at step 3: rank 0: ill",
        f"error: {runs[2]} has no status.json that can be read: name a run folder (runs/NAME)"]


def test_a_run_that_was_refused_has_saved_nothing(tmp_path: Path) -> None:
    Status(tmp_path, 0, 0).write("failed", Position(), why="no shards")
    assert status.tell(tmp_path) == f"{tmp_path}: failed, epoch 1, nothing saved yet: no shards"


def beat(run: Path, count: int) -> None:
    """A heartbeat whose file is of another century."""
    (run / "watch").mkdir(exist_ok=True)
    aside = run / "watch/new"
    aside.write_text(json.dumps({"step": 7, "count": count}))
    os.utime(aside, (0, 0))
    aside.replace(run / "watch/rank_00000.json")


@pytest.mark.fault(
    "A run ends",
    "a run on another host is asked for, whatever its clock says",
    "`python -m vid2vid_dist status` waits for a heartbeat, 15 s at most",
    "nothing")
def test_a_run_on_another_host_is_known_by_heartbeats_whatever_the_clocks_say(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "SIGN_OF_LIFE", 2.0)
    (tmp_path / "status.json").write_text(json.dumps({"status": "running", "step": 4, "epoch": 1, "host": "elsewhere"}))
    assert ": no heartbeat yet: gets ready on elsewhere, or was killed there, epoch 1" in status.tell(tmp_path)
    beat(tmp_path, 1)
    later = threading.Timer(0.7, beat, (tmp_path, 2))
    later.start()
    assert ": running, step 7, epoch 1, saved at step 4" in status.tell(tmp_path)
    later.join()
    os.utime(tmp_path / "watch/rank_00000.json")  # touched just now, by a copy for instance
    assert ": dead: killed near step 7, without a word; the same command goes on" in status.tell(tmp_path)
