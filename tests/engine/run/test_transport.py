"""Messages between real ranks: whole, in order, and with a name when they stay away."""

import time

from tests.torchrun import torchrun


def test_all_send_before_they_receive_and_a_message_that_stays_away_is_named() -> None:
    started = time.monotonic()
    result = torchrun(3, "tests/engine/run/exchange.py")
    assert result.stdout.count("all equal") == 3, result.stdout
    assert result.returncode
    assert "step 7, rank 0: waiting for generator synthesis lane 0 frame 1 of rank 1" in result.stdout
    assert time.monotonic() - started < 60
