"""Folders that are complete or absent."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time prepares `folder`; the others wait here."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A new folder to fill: it becomes `folder` (replacing it) when the block succeeds, else it vanishes.

    Call it inside `locked`; what a killed process left behind is cleared away here.
    """
    aside, old = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "old"))
    for leftover in (aside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
    finally:
        for leftover in (aside, old):
            shutil.rmtree(leftover, ignore_errors=True)
