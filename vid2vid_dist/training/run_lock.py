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


class RunLock:
    """The right of this process to write into a run folder, by the file `lock` in it; it ends with the process, however
    that ends. Children do not inherit it, and whoever opens and closes the file in this process gives it up."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._file: IO[str] | None = None

    def take(self, patience: float) -> None:
        """Wait `patience` seconds at most: who has just left may still be ending, and a file server is slow to see that
        a node is gone.

        Raises `UserError` when another process keeps the folder. Where files cannot be locked that is only logged.
        """
        end = time.monotonic() + patience
        try:
            self._file = (self._run_dir / "lock").open("a+")
            while not _is_locked(self._file):
                self._file.seek(0)
                holder = self._file.read(200).strip()
                if time.monotonic() > end:
                    raise UserError(f"{self._run_dir} is in use by another run ({holder}): end that one, or choose "
                                    "another run.name")
                log.warning("%s is in use by another run (%s): waiting for its end", self._run_dir, holder)
                time.sleep(LOOK_EVERY)
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {platform.node()}\n")
            self._file.flush()
        except OSError as error:
            log.warning("%s cannot be locked (%s): do not start this run a second time", self._run_dir, error)


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
