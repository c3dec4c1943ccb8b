"""A drawing of measured lines for the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vid2vid_dist.errors import UserError

Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def draw(path: Path, x: str, y: str, lines: Lines, *, both_logarithmic: bool) -> None:
    """Lines over a logarithmic scale as a PNG: `lines` by name, what lies across and what up. Raises `UserError`
    without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("drawings need matplotlib: pip install '.[dev]'") from error
    figure = Figure(figsize=(7.5, 5 if both_logarithmic else 4.2), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    for name, (across, up) in lines.items():
        axes.plot(across, up, marker="o", markersize=4, label=name)
    axes.grid(alpha=0.3)
    if both_logarithmic:
        axes.loglog()
        figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    else:
        ticks = sorted({value for across, _ in lines.values() for value in across})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=110, metadata={"Software": None})
