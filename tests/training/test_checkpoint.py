"""Checkpoints are complete or absent, and no damaged one is read."""

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vid2vid_dist.data.atomic import write_atomically
from vid2vid_dist.engine.run.optimizer_state import MASTER, Owned, SavedPieces
from vid2vid_dist.errors import UserError
from vid2vid_dist.training.checkpoint import (
    Files,
    Position,
    SavedState,
    commit,
    find_fault,
    newest_checkpoint,
    prepare,
    prune,
    require_fresh,
    write_files,
)
from vid2vid_dist.training.copies import copied
from vid2vid_dist.untrusted import reading

STATE = SavedState(Position(7, 2, 1, 3), False, 2, {"ranks": 2}, {"seed": 0, "size": [64, 32]}, {"ngf": 4}, {})
WEIGHTS = "optimizer/image/rank_00000.safetensors"
FILES: Files = {"state.json": STATE.to_json(), WEIGHTS: {"master/weight/0": torch.arange(4.0)}}


def save(run_dir: Path, step: int, files: Files = FILES) -> Path:
    """A checkpoint as a single rank makes it."""
    aside = prepare(run_dir, step, n_bytes=0)
    return commit(aside, write_files(aside, files))


def checkpoints(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def overwrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def test_masters_that_do_not_cover_a_parameter_are_damage(tmp_path: Path) -> None:
    folder = (save(tmp_path, 5) / WEIGHTS).parent
    found = torch.zeros(5)
    SavedPieces(folder).read_into(found, MASTER, [Owned("weight", 0, 4, 1)])
    assert found.tolist() == [0, 0, 1, 2, 3]
    says = rf"{folder}.*master of weight: 1 elements are missing"
    with pytest.raises(UserError, match=says), reading(folder, "go back"):
        SavedPieces(folder).read_into(found, MASTER, [Owned("weight", 0, 5, 0)])


def test_a_committed_checkpoint_is_whole_and_the_newest(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (5, 10):
        assert save(tmp_path, step) == tmp_path / f"checkpoints/step_{step:08d}"
    assert checkpoints(tmp_path) == ["latest", "step_00000005", "step_00000010"]
    newest = newest_checkpoint(tmp_path)
    assert newest == tmp_path / "checkpoints/step_00000010"
    assert SavedState.read(newest) == STATE


DAMAGES = pytest.mark.parametrize(("damage", "fault"), [
    (lambda f: (f / WEIGHTS).unlink(), "rank_00000.safetensors is missing"),
    (lambda f: overwrite(f / WEIGHTS, lambda x: x[:-1]), "rank_00000.safetensors has 95 bytes instead of 96"),
    (lambda f: overwrite(f / WEIGHTS, lambda x: x[:-1] + b"!"), "rank_00000.safetensors was changed"),
    (lambda f: (f / "manifest.json").unlink(), "manifest.json cannot be read"),
    (lambda f: (f / "manifest.json").write_text('{"files"'), "manifest.json cannot be read"),
])


@pytest.mark.fault(
    "Files",
    "a file of the newest checkpoint is missing, cut or changed",
    "goes on from the one before, and says so",
    "steps between the two")
@DAMAGES
def test_damaged_checkpoint_is_named_and_the_one_before_is_used(
        tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], fault: str) -> None:
    before, folder = save(tmp_path, 5), save(tmp_path, 10)
    assert find_fault(folder) is None
    damage(folder)
    assert fault in str(find_fault(folder))
    assert newest_checkpoint(tmp_path) == before
    assert f"{folder} is damaged" in caplog.text
    assert fault in caplog.text
    damage(before)
    with pytest.raises(UserError, match=r"step_00000010 is damaged .*step_00000005 is damaged .*no whole one"):
        newest_checkpoint(tmp_path)


def test_latest_that_names_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save(tmp_path, 5)
    (folder.parent / "latest").write_text("step_00000009\n")
    assert newest_checkpoint(tmp_path) == folder
    assert "step_00000009 is damaged" in caplog.text


def test_checkpoint_beyond_latest_is_of_a_life_given_up(tmp_path: Path) -> None:
    """Whoever writes an older name into `latest` goes on from there, and never from what was after it."""
    first, second, third = (save(tmp_path, step) for step in (5, 10, 15))
    write_atomically(third.parent / "latest", second.name + "\n")
    (second / WEIGHTS).unlink()
    assert newest_checkpoint(tmp_path) == first
    save(tmp_path, 7)
    prune(tmp_path, step=7, keep_last=1, keep_every_steps=0)
    assert checkpoints(tmp_path) == ["latest", "step_00000007", "step_00000010", "step_00000015"]


def test_without_latest_the_newest_whole_one_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lost in a copy, or the run died before its first save was announced."""
    first, second = (save(tmp_path, step) for step in (5, 10))
    (first.parent / "latest").unlink()
    assert newest_checkpoint(tmp_path) == second
    assert f"latest is missing: going on from {second}" in caplog.text
    (second / WEIGHTS).unlink()
    assert newest_checkpoint(tmp_path) == first


@pytest.mark.parametrize("name", ["step_00000005.bak", "step_best", "step_5"])
def test_what_is_kept_under_another_name_is_left_alone(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path, 5)
    folder.rename(folder.with_name(name))
    for step in (10, 15, 100_000_000):  # the last has a digit more
        save(tmp_path, step)
    prune(tmp_path, 100_000_000, keep_last=1, keep_every_steps=0)
    assert checkpoints(tmp_path) == sorted(["latest", name, "step_100000000"])
    (tmp_path / "checkpoints/step_100000000/manifest.json").unlink()
    with pytest.raises(UserError, match="no whole one before"):
        newest_checkpoint(tmp_path)


def test_what_died_in_a_save_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    """Also where that is of another step."""
    write_files(prepare(tmp_path, 7, n_bytes=0), FILES)
    save(tmp_path, 10)
    assert checkpoints(tmp_path) == ["latest", "step_00000010"]


def test_a_rank_that_does_not_see_the_folder_of_rank_0_makes_none(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "checkpoints"):
        root.mkdir(exist_ok=True)
        with pytest.raises(OSError, match=r"\.step_00000005, which rank 0 has made, is not there: set run\.root"):
            write_files(tmp_path / "checkpoints/.step_00000005", FILES)
        assert not list(tmp_path.rglob(".step*"))


def test_folders_that_cannot_be_synced_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def of_this_server(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", of_this_server)
    folder = save(tmp_path, 5)
    assert newest_checkpoint(tmp_path) == folder


def test_a_run_that_has_begun_is_not_fresh(tmp_path: Path) -> None:
    require_fresh(tmp_path)
    save(tmp_path, 5)
    with pytest.raises(UserError, match=r"--fresh: .* holds step_00000005; choose another run.name or remove it"):
        require_fresh(tmp_path)


def test_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"position": {"step": 1}, "grid": {}}))
    with pytest.raises(UserError, match=r"another version of this program, .* choose another run.name"):
        SavedState.read(tmp_path)


def test_without_room_nothing_is_begun(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"it needs 1,000,000,000,000,000,000 bytes, [\d,]+ are free in"):
        prepare(tmp_path, 5, n_bytes=10**18)
    assert checkpoints(tmp_path) == []


def test_latest_moves_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dying before `latest` moves leaves a new checkpoint that nobody names, and the old one in force."""
    save(tmp_path, 5)

    def die(path: Path, text: str) -> None:
        if path.name == "latest":
            raise KeyboardInterrupt
        write_atomically(path, text)

    monkeypatch.setattr("vid2vid_dist.training.checkpoint.write_atomically", die)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 10)
    assert find_fault(tmp_path / "checkpoints/step_00000010") is None
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints/step_00000005"


def test_step_of_an_earlier_life_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 5)
    folder = save(tmp_path, 5, {"new": "new"})
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "new"]


def test_prune_keeps_the_last_and_the_multiples(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20, 25):
        save(tmp_path, step)
    prune(tmp_path, 25, keep_last=2, keep_every_steps=10)
    assert checkpoints(tmp_path) == ["latest", "step_00000010", "step_00000020", "step_00000025"]
    prune(tmp_path, 25, keep_last=1, keep_every_steps=0)
    assert checkpoints(tmp_path) == ["latest", "step_00000025"]


def test_difference_is_named(tmp_path: Path) -> None:
    STATE.require("data", {"seed": 0, "size": (64, 32)}, tmp_path, "")  # tuples are lists in the file
    with pytest.raises(UserError, match=r"other networks \(ndf: saved None, now 8; ngf: saved 4, now 8\): mend it"):
        STATE.require("networks", {"ngf": 8, "ndf": 8}, tmp_path, "mend it")


def test_shared_and_strided_tensors_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    save_file(copied({"a": base, "b": base.T, "c": base}), tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")["b"].equal(base.T)
