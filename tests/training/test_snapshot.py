"""A checkpoint that is kept for readers while training goes on and clears old ones away."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.training.test_checkpoint import WEIGHTS, checkpoints, save
from vid2vid_dist.errors import UserError
from vid2vid_dist.training.checkpoint import find_fault, newest_checkpoint, prune
from vid2vid_dist.training.snapshot import snapshot


def train(run: Path) -> None:
    """Save and clear away without a pause."""
    for step in range(1, 10**6):
        save(run, step)
        prune(run, step, keep_last=1, keep_every_steps=0)


@pytest.mark.fault(
    "Files",
    "a checkpoint is copied while training clears it away (`python -m vid2vid_dist status RUN --snapshot DEST`)",
    "a whole one is kept",
    "nothing")
def test_snapshots_of_a_run_that_clears_away_are_whole(tmp_path: Path) -> None:
    """By another process; each snapshot is a whole checkpoint, and stays one."""
    run = tmp_path / "run"
    other = multiprocessing.get_context("fork").Process(target=train, args=(run,), daemon=True)
    other.start()
    try:
        while not (run / "checkpoints/latest").exists():
            assert other.is_alive()
        kept: list[Path] = []
        end = time.monotonic() + 60
        while len({path.name for path in kept}) < 10:
            assert other.is_alive()
            assert time.monotonic() < end, "training does not go on"
            kept.append(snapshot(run, tmp_path / f"kept_{len(kept)}"))
    finally:
        other.kill()
        other.join()
    assert {find_fault(path) for path in kept} == {None}
    assert [name for path in kept for name in os.listdir(path.parent)] == [path.name for path in kept]


def test_a_snapshot_by_command_takes_no_room(tmp_path: Path) -> None:
    folder = save(tmp_path / "run", 5)
    command = [sys.executable, "launch/status.py", tmp_path / "run", "--snapshot", tmp_path / "kept"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120, check=False)
    kept = tmp_path / "kept/step_00000005"
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{kept}\n", "")
    assert (kept / WEIGHTS).samefile(folder / WEIGHTS)
    save(tmp_path / "run", 10)
    prune(tmp_path / "run", 10, keep_last=1, keep_every_steps=0)
    assert not folder.exists()
    assert find_fault(kept) is None
    assert snapshot(tmp_path / "run", kept.parent) == tmp_path / "kept/step_00000010"


def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint yet"):
        snapshot(tmp_path, tmp_path / "kept")
    save(tmp_path, 5)
    snapshot(tmp_path, tmp_path / "kept")
    with pytest.raises(UserError, match="exists: choose another folder"):
        snapshot(tmp_path, tmp_path / "kept")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot make .*: choose another folder"):
        snapshot(tmp_path, tmp_path / "file/kept")


def test_checkpoints_that_are_not_whole_do_not_count_as_kept(tmp_path: Path) -> None:
    """Else the last whole one would go for one that nobody can go on from."""
    for step in (5, 10, 15, 20):
        save(tmp_path, step)
    (tmp_path / "checkpoints/step_00000020" / WEIGHTS).unlink()
    (tmp_path / "checkpoints/step_00000015/manifest.json").unlink()
    prune(tmp_path, 20, keep_last=1, keep_every_steps=0)
    assert checkpoints(tmp_path) == ["latest", "step_00000010", "step_00000015", "step_00000020"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints/step_00000010"
