"""Checkpoints are complete or absent, and no damaged one is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vid2vid_dist.engine.grid import solo_grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.training.checkpoint import (
    Position,
    SavedState,
    commit,
    contiguous,
    find_fault,
    newest_checkpoint,
    prune,
    write_atomically,
)

STATE = SavedState(Position(7, 2, 1, 3), False, {"ranks": 2}, {"seed": 0, "size": [64, 32]}, {"ngf": 4})


def write(folder: Path) -> None:
    (folder / "state.json").write_text(STATE.to_json())
    (folder / "engines/image").mkdir(parents=True)
    (folder / "engines/image/weights.pt").write_bytes(b"weights")


def checkpoints(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def test_a_committed_checkpoint_is_whole_and_the_newest(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (5, 10):
        assert commit(tmp_path, step, solo_grid(), write) == tmp_path / f"checkpoints/step_{step:08d}"
    assert checkpoints(tmp_path) == ["latest", "step_00000005", "step_00000010"]
    newest = newest_checkpoint(tmp_path)
    assert newest == tmp_path / "checkpoints/step_00000010"
    assert SavedState.read(newest) == STATE


@pytest.mark.parametrize(("damage", "fault"), [
    (lambda f: (f / "engines/image/weights.pt").unlink(), "engines/image/weights.pt is missing"),
    (lambda f: (f / "engines/image/weights.pt").write_bytes(b"weight"), "weights.pt has 6 bytes instead of 7"),
    (lambda f: (f / "engines/image/weights.pt").write_bytes(b"weighty"), "engines/image/weights.pt was changed"),
    (lambda f: (f / "manifest.json").unlink(), "no readable manifest.json"),
    (lambda f: (f / "manifest.json").write_text('{"files"'), "no readable manifest.json"),
])
def test_damage_is_found(tmp_path: Path, damage: Callable[[Path], object], fault: str) -> None:
    folder = commit(tmp_path, 5, solo_grid(), write)
    assert find_fault(folder) is None
    damage(folder)
    assert fault in str(find_fault(folder))
    with pytest.raises(UserError, match=r"step_00000005 is damaged .*write the name of an older one into .*latest"):
        newest_checkpoint(tmp_path)


def test_latest_that_names_nothing_is_told(tmp_path: Path) -> None:
    folder = commit(tmp_path, 5, solo_grid(), write)
    (folder.parent / "latest").write_text("step_00000009\n")
    with pytest.raises(UserError, match="step_00000009 is damaged"):
        newest_checkpoint(tmp_path)


def test_failed_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise OSError("disk full")

    commit(tmp_path, 5, solo_grid(), write)
    with pytest.raises(OSError, match="disk full"):
        commit(tmp_path, 10, solo_grid(), fail)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints/step_00000005"
    assert not (tmp_path / "checkpoints/step_00000010").exists()
    commit(tmp_path, 10, solo_grid(), write)  # over what was left aside
    assert checkpoints(tmp_path) == ["latest", "step_00000005", "step_00000010"]


def test_latest_moves_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dying before `latest` moves leaves a new checkpoint that nobody names, and the old one in force."""
    commit(tmp_path, 5, solo_grid(), write)

    def die(path: Path, text: str) -> None:
        if path.name == "latest":
            raise KeyboardInterrupt
        write_atomically(path, text)

    monkeypatch.setattr("vid2vid_dist.training.checkpoint.write_atomically", die)
    with pytest.raises(KeyboardInterrupt):
        commit(tmp_path, 10, solo_grid(), write)
    assert find_fault(tmp_path / "checkpoints/step_00000010") is None
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints/step_00000005"


def test_step_of_an_earlier_life_is_replaced(tmp_path: Path) -> None:
    commit(tmp_path, 5, solo_grid(), write)
    folder = commit(tmp_path, 5, solo_grid(), lambda aside: (aside / "new").write_text("new") and None)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "new"]


def test_prune_keeps_the_last_and_the_multiples(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20, 25):
        commit(tmp_path, step, solo_grid(), write)
    prune(tmp_path, keep_last=2, keep_every_steps=10)
    assert checkpoints(tmp_path) == ["latest", "step_00000010", "step_00000020", "step_00000025"]
    prune(tmp_path, keep_last=1, keep_every_steps=0)
    assert checkpoints(tmp_path) == ["latest", "step_00000025"]


def test_difference_is_named(tmp_path: Path) -> None:
    STATE.require("data", {"seed": 0, "size": (64, 32)}, tmp_path, "")  # tuples are lists in the file
    with pytest.raises(UserError, match=r"other networks \(ndf: saved None, now 8; ngf: saved 4, now 8\): mend it"):
        STATE.require("networks", {"ngf": 8, "ndf": 8}, tmp_path, "mend it")


def test_shared_and_strided_tensors_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    save_file(contiguous({"a": base, "b": base.T, "c": base}), tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")["b"].equal(base.T)
