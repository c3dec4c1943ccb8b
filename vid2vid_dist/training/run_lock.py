"""One process writes into a run folder: two runs would put their files into each other's checkpoints."""

import fcntl
import logging
import os
import platform
import time
from pathlib import Path
from typing import IO

from vid2vid_dist.errors import UserError

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds between two looks whether the folder is free


def take_run_folder(run_dir: Path, patience: float) -> IO[str] | None:
    """The right of this process to write into a run folder, by the file `lock` in it: it holds until the file that is
    returned is closed, at the latest with the process, however that ends. Children do not inherit it, and whoever opens
    and closes the file in this process gives it up.

    Waits `patience` seconds at most: who has just left may still be ending, and a file server is slow to see that a
    node is gone. Raises `UserError` when another process keeps the folder. Where files cannot be locked that is only
    logged.
    """
    end = time.monotonic() + patience
    file = None
    try:
        file = (run_dir / "lock").open("a+")
        while not _is_locked(file):
            file.seek(0)
            holder = file.read(200).strip()
            if time.monotonic() > end:
                raise UserError(f"{run_dir} is in use by another run ({holder}): end that one, or choose another "
                                "run.name")
            log.warning("%s is in use by another run (%s): waiting for its end", run_dir, holder)
            time.sleep(LOOK_EVERY)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
    except OSError as error:
        log.warning("%s cannot be locked (%s): do not start this run a second time", run_dir, error)
    return file


def is_in_use(run_dir: Path) -> bool | None:
    """Whether another process has a run folder; None where that cannot be known. Gives this process's own lock up."""
    try:
        with (run_dir / "lock").open() as file:
            return not _is_locked(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
    except OSError:
        return None


def _is_locked(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # which of them is the system's choice
        return False
    return True
