"""A checkpoint kept for readers: training clears old ones away, under whoever copies them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vid2vid_dist.errors import UserError
from vid2vid_dist.training.checkpoint import newest_checkpoint
from vid2vid_dist.untrusted import reason


def snapshot(run_dir: Path, destination: Path) -> Path:
    """A copy of the newest whole checkpoint that training never clears away: hard links, which take no room, where
    both are on one file system. Raises `UserError`.
    """
    while True:
        newest = newest_checkpoint(run_dir)
        if newest is None:
            raise UserError(f"{run_dir} has no checkpoint yet")
        final = destination / newest.name
        if final.exists():
            raise UserError(f"{final} exists: choose another folder")
        aside = destination / f".{newest.name}.{os.getpid()}"
        try:
            shutil.copytree(newest, aside, copy_function=_link)
            os.replace(aside, final)
            return final
        except (OSError, shutil.Error) as error:
            shutil.rmtree(aside, ignore_errors=True)
            if newest.exists():  # else training has gone on, and cleared it away
                raise UserError(f"cannot make {final} ({reason(error)}): choose another folder") from None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
