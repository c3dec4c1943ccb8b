"""What worker processes have in common."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from weakref import WeakSet

from vid2vid_dist.errors import ResourceError

PR_SET_PDEATHSIG = 1
_pools: WeakSet[ProcessPoolExecutor] = WeakSet()


def spawned(n_workers: int, begin: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """A pool of new interpreters, each of which begins with `begin(this process, *arguments)`."""
    pool = ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), begin, (os.getpid(), *arguments))
    _pools.add(pool)
    return pool


def kill(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool, whatever they do. One that has lost a process waits for the others for ever, where
    these do not heed SIGTERM."""
    for process in list((pool._processes or {}).values()):
        process.kill()


def end_spawned() -> None:
    """End all pools: for a process without the interpreter's own tear-down."""
    for pool in list(_pools):
        kill(pool)
        pool.shutdown(cancel_futures=True)


def end_with(parent: int, at_interrupt: signal.Handlers) -> None:
    """In a worker: end with the process that has begun it, whatever ends that; `at_interrupt` answers Ctrl-C."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, at_interrupt)


def require_shared_memory(n_bytes: int, instead: str) -> None:
    """Raise `ResourceError` where the machine has less than twice of that left: a write beyond would end the process.

    instead: what does without.
    """
    room = os.statvfs("/dev/shm")
    if room.f_bavail * room.f_frsize < 2 * n_bytes:
        raise ResourceError(
            "/dev/shm, which frames go through from one process to another, is full: give the container "
            f"more (docker run --shm-size or --ipc=host), or use {instead}")
