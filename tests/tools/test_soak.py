"""What grows in a process is seen, and what does not is not."""

import mmap
import os
import time

import pytest

from tools.drill import Kind
from tools.soak import Reading, growth, paced, read_process, report


def test_this_process_is_read() -> None:
    before = read_process(os.getpid(), 0)
    files = [open(os.devnull) for _ in range(7)]  # noqa: SIM115
    ballast = mmap.mmap(-1, 2**26)  # pages that the process cannot have had before
    ballast.write(bytes(2**26))
    after = read_process(os.getpid(), 1)
    for file in files:
        file.close()
    assert after.files == before.files + 7
    assert after.memory >= before.memory + len(ballast) / 2**20 - 8
    with pytest.raises(ValueError, match="is gone"):
        read_process(2**22 + 1, 0)


def test_a_leak_is_told_and_a_start_is_none() -> None:
    flat = [Reading(t, 7 + t, 100 + min(t, 8), 50, 9) for t in range(100)]
    leaking = [Reading(t, 7 + t, 100 + t / 60, 50 + t / 3600, 9) for t in range(100)]
    assert growth(flat) == pytest.approx((0, 0, 0), abs=1e-6)
    assert growth(leaking) == pytest.approx((60, 1, 0), abs=1e-6)
    assert growth(flat[:35]) is None
    assert "MiB: at the end of lives 102 to 108; largest growth per hour +60.0" in report([flat, leaking])


def test_faults_come_at_their_time() -> None:
    started = time.monotonic()
    assert list(paced(iter(Kind), 0.5, 0.2)) == list(Kind)[:2]
    assert 0.4 <= time.monotonic() - started < 5
