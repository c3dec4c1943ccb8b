"""A checkpoint kept for readers: training clears old ones away, under whoever copies them."""

import os
import shutil
from pathlib import Path

from vid2vid_dist.errors import UserError
from vid2vid_dist.training.checkpoint import looks_whole, newest_checkpoint
from vid2vid_dist.untrusted import MAX_NAME_BYTES, read_text, reason


def snapshot(run_dir: Path, destination: Path) -> Path:
    """A copy of the newest whole checkpoint that training never clears away: hard links, which take no room, where
    both are on one file system. Raises `UserError`.
    """
    while True:
        before = _latest(run_dir)
        try:
            return _snapshot(run_dir, destination)
        except UserError:
            if _latest(run_dir) == before:
                raise  # else training has gone on, and may have cleared away what was read


def _latest(run_dir: Path) -> str:
    try:
        return read_text(run_dir / "checkpoints/latest", MAX_NAME_BYTES)
    except (OSError, ValueError):
        return ""


def _snapshot(run_dir: Path, destination: Path) -> Path:
    newest = newest_checkpoint(run_dir)
    if newest is None:
        raise UserError(f"{run_dir} has no checkpoint yet: wait for its first save")
    final = destination / newest.name
    if final.exists():
        raise UserError(f"{final} exists: choose another folder")
    aside = destination / f".{newest.name}.{os.getpid()}"
    try:
        shutil.copytree(newest, aside, copy_function=_link)
        if not looks_whole(aside):
            raise UserError(f"{newest} was cleared away meanwhile: give the same command again")
        os.replace(aside, final)
        return final
    except (OSError, shutil.Error) as error:
        raise UserError(f"cannot make {final} ({reason(error)}): choose another folder") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
