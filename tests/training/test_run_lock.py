"""Two runs in one folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.training.test_trainer import TWO_EPOCHS, Configure, folder_of
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.training.run_lock import take_run_folder
from vid2vid_dist.training.trainer import Trainer

HOLD = """
import sys, time
from pathlib import Path
from vid2vid_dist.training.run_lock import take_run_folder
lock = take_run_folder(Path(sys.argv[1]), 0)
print("taken", flush=True)
time.sleep(float(sys.argv[2]))
"""


def ask_for(run: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that wants a run folder for some time."""
    run.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", HOLD, str(run), str(seconds)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})


def hold(run: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that has a run folder for some time."""
    other = ask_for(run, seconds)
    assert other.stdout is not None
    assert other.stdout.readline() == "taken\n"
    return other


def test_a_folder_in_use_is_refused_until_its_process_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = hold(tmp_path, 60)
    with pytest.raises(UserError, match=rf" is in use by another run \(process {other.pid} on "):
        take_run_folder(tmp_path, 0)
    other.kill()
    other.communicate()
    take_run_folder(tmp_path, 0)
    assert "cannot be locked" not in caplog.text


def test_who_ends_soon_is_waited_for(tmp_path: Path) -> None:
    other = hold(tmp_path, 1)
    take_run_folder(tmp_path, 30)
    other.communicate()


@pytest.mark.fault(
    "Disks",
    "files cannot be locked (Lustre without flock)",
    "warned once, goes on",
    "the refusal of a second start")
def test_where_nothing_can_be_locked_the_run_goes_on(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    take_run_folder(tmp_path, 0)
    assert "cannot be locked ([Errno 38] Function not implemented): do not start" in caplog.text


@pytest.mark.fault(
    "Disks",
    "a second start in the same folder",
    "waits a minute, then is refused",
    "nothing")
def test_a_second_start_touches_nothing(
        configure: Configure, grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process has the folder; not even the status, which is that one's."""
    cfg = configure(*TWO_EPOCHS, "run.max_steps=2")
    Trainer(cfg, grid).run()
    monkeypatch.setattr("vid2vid_dist.training.trainer.PATIENCE", 0.0)
    before = {path: path.read_bytes() for path in folder_of(cfg).rglob("*") if path.is_file() and path.name != "lock"}
    other = hold(folder_of(cfg), 60)
    with pytest.raises(UserError, match="in use by another run"):
        Trainer(configure(*TWO_EPOCHS, "run.max_steps=4"), grid)
    other.kill()
    other.communicate()
    assert before == {path: path.read_bytes() for path in before}


def test_a_run_keeps_its_folder_to_its_end(configure: Configure, grid: Grid) -> None:
    """The lock goes with its file: nothing in this process may close that, nor open and close it a second time."""
    cfg = configure(*TWO_EPOCHS, "run.max_steps=1")
    trainer = Trainer(cfg, grid)
    trainer.run()
    _, said = ask_for(folder_of(cfg), 0).communicate()
    assert f"in use by another run (process {os.getpid()} on " in said
