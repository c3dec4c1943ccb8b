"""One line per interval on the console: in colour on a terminal, plain in a log."""

import math
import time
from contextlib import suppress

from rich.console import Console
from rich.text import Text

from vid2vid_dist.monitor.report import StepReport


def print_report(report: StepReport, memory: str) -> None:
    """Print its line; rich leaves the colours out where the output is not a terminal."""
    with suppress(OSError):  # a terminal that was closed, a full disk behind it: the journal has it as well
        Console(highlight=False, soft_wrap=True).print(render(report, memory))


def render(report: StepReport, memory: str) -> Text:
    """`10:32:01 step 120 · epoch 3 · 12.3 frames/s · 0.81 s/step · GPU 3.1 GiB · 45 s left · L1 0.31 …`.

    The losses, whose number grows with the curriculum, come last.
    """
    text = Text()
    text.append(time.strftime("%H:%M:%S "), style="dim")
    text.append(f"step {report.step}", style="bold")
    text.append(f" · epoch {report.epoch}", style="dim")
    text.append(f" · {report.frames_per_second:.3g} frames/s", style="dim")
    text.append(f" · {report.seconds_per_step:.3g} s/step", style="dim")
    if report.loader_share > 0.05:
        text.append(f" · {report.loader_share:.0%} waiting for data", style="yellow")
    text.append(f" · {memory}", style="dim")
    text.append(f" · {duration(report.eta)} left", style="green")
    text.append(" ·", style="dim")
    for name, value in report.losses.items():
        text.append(f" {name} ", style="dim")
        text.append(f"{value:.3g}", style="cyan" if math.isfinite(value) else "bold red")
    return text


def duration(seconds: float) -> str:
    """Seconds in words of at most two units: `45 s`, `3 min 20 s`, `2 h 05 min`, `6 d 04 h`."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60:02d} min"
    return f"{s // 86400} d {s % 86400 // 3600:02d} h"
