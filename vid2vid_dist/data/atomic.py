"""Files and folders that are complete or absent, and that one process at a time works on."""

import errno
import fcntl
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

LOOK_EVERY = 0.02  # seconds between two looks whether another process has left


@contextmanager
def locked(path: Path, shared: bool = False) -> Iterator[None]:
    """One process at a time works on `path`, or any number that say `shared`; the others wait here. Where files cannot
    be locked this is logged, and the block runs. One that fails alone with nothing made leaves nothing.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _open_lock(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if path in new and not shared and not path.is_file():
                with suppress(FileNotFoundError):
                    for empty in path.iterdir():
                        empty.rmdir()
                    path.rmdir()
                Path(lock.name).unlink()
                for folder in new[1:]:
                    folder.rmdir()
        raise
    finally:
        lock.close()


def _open_lock(path: Path, kind: int) -> IO[str]:
    """The lock of `path`, taken."""
    name = path.with_name(f".{path.name}.lock")
    while True:
        lock = name.open("w")
        try:
            _take(lock, path, math.inf, kind)
        except OSError as error:  # Lustre without -o flock, NFS without lockd
            log.warning("%s cannot be locked (%s): do not start another command on it", path, error.strerror)
        with suppress(OSError):
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(name)):
                return lock
        lock.close()  # who had it has failed, and has taken it away


@contextmanager
def alone_in(folder: Path, patience: float) -> Iterator[None]:
    """One process at a time is in here, and leaves no file; the others wait `patience` seconds at most, then go on.

    Raises `OSError` where the folder is missing or cannot be locked.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        _take(handle, folder, patience, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _take(lock: IO[str] | int, path: Path, patience: float, kind: int) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if math.isinf(patience):
                log.warning("%s is in use by another command: waiting for its end", path)
                fcntl.flock(lock, kind)
                return
        time.sleep(LOOK_EVERY)
    log.warning("%s was in use by another process for %.0f s: going on without waiting for it", path, patience)


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


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old text or the new one, also after a power cut or where the disk is full (`OSError`)."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        with suppress(OSError):
            aside.unlink()
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):  # some servers know no sync of folders
            raise
    finally:
        os.close(handle)
