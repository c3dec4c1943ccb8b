"""What worker processes have in common."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def end_with(parent: int, at_interrupt: signal.Handlers) -> None:
    """In a worker: end with the process that has begun it, whatever ends that; `at_interrupt` answers Ctrl-C."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, at_interrupt)
