"""The console line, on a terminal and in a log."""

import math
from collections.abc import Callable

import pytest

from vid2vid_dist.monitor.console import duration, print_report, render
from vid2vid_dist.monitor.report import StepReport

Make = Callable[..., StepReport]


@pytest.mark.parametrize(("seconds", "text"), [
    (0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (533000, "6 d 04 h"),
])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_says_it_all(make_report: Make) -> None:
    line = render(make_report(120), "GPU 3.1 GiB").plain
    assert line.partition(" ")[2] == (
        "step 120 · epoch 3 · 5 frames/s · 0.8 s/step · GPU 3.1 GiB · 2 h 05 min left · L1 0.25 G_GAN 0.5")


def test_waiting_for_data_is_said_when_it_matters(make_report: Make) -> None:
    assert "25% waiting for data" in render(make_report(120, loader_wait=2.0), "").plain


def test_a_loss_that_is_not_finite_is_red(make_report: Make) -> None:
    text = render(make_report(120, losses={"L1": math.nan, "G_GAN": 1.0}), "")
    red = [text.plain[span.start:span.end] for span in text.spans if "red" in str(span.style)]
    assert red == ["nan"]


def test_a_log_gets_one_plain_line(make_report: Make, capsys: pytest.CaptureFixture[str]) -> None:
    losses = {f"a_long_loss_name_{i}": 1.0 for i in range(20)}
    print_report(make_report(120, losses=losses), "RAM 1.0 GiB")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\x1b" not in out
    assert out.endswith("a_long_loss_name_19 1\n")
