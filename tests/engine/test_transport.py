"""Messages between real ranks: whole, in order, and with a name when they stay away."""

from __future__ import annotations

import time

from tests.torchrun import torchrun

WORKER = "tests/engine/exchange.py"


def test_all_send_before_they_receive():
    result = torchrun(3, WORKER, "all")
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("all equal") == 3


def test_a_message_that_stays_away_is_named():
    started = time.monotonic()
    result = torchrun(3, WORKER, "silent")
    assert result.returncode
    assert "step 7, rank 0: waiting for synthesis lane 0 frame 1 scale 0 of rank 1" in result.stdout
    assert time.monotonic() - started < 60
