"""Folders that are complete or absent."""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """One process at a time prepares `folder`, or any number that say `shared`; the others wait here. Where files
    cannot be locked that is logged."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s is in use by another command: waiting for its end", folder)
            fcntl.flock(lock, kind)
        except OSError as error:  # Lustre without -o flock, NFS without lockd
            log.warning("%s cannot be locked (%s): do not start another command on it", folder, error.strerror)
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
