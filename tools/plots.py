"""Drawings of what was measured, for the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vid2vid_dist.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]
Bar = tuple[int, float, float, str, str]
"""Of a task in a plan: slot, start and end in seconds, role, kind."""


def draw(path: Path, x: str, y: str, lines: Lines, *, both_logarithmic: bool) -> None:
    """Lines over a logarithmic scale as a PNG: `lines` by name, what lies across and what up."""
    figure = _figure(5 if both_logarithmic else 4.2)
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


def draw_steps(path: Path, steps: Mapping[tuple[str, str], Sequence[Bar]]) -> None:
    """What every rank does in a step, as a PNG: rows by the first part of a step's name, columns by the second. All of
    a row have one scale. A reduction is no bar, the rank goes on meanwhile."""
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*steps, strict=True))
    figure = _figure(2.2 * len(rows), width=11)
    from matplotlib.patches import Patch

    grid = figure.subplots(len(rows), len(columns), sharex="row", sharey=True, squeeze=False)
    roles = list(dict.fromkeys(bar[3] for bars in steps.values() for bar in bars))
    for (row, column), bars in steps.items():
        axes, begin = grid[rows.index(row), columns.index(column)], min(bar[1] for bar in bars)
        for number, role in enumerate(roles):
            for slot, start, end, of, kind in bars:
                if of == role and kind != "reduce":
                    axes.barh(slot, 1e3 * (end - start), left=1e3 * (start - begin), height=0.85,
                              color="black" if kind == "update" else f"C{number}", edgecolor="white", linewidth=0.3)
        axes.set_title(f"{row}, {column}", fontsize="small")
        axes.set_yticks(range(1 + max(bar[0] for bar in bars)))
        axes.tick_params(labelsize="x-small")
    grid[0, 0].invert_yaxis()
    for axes in grid[-1]:
        axes.set_xlabel("milliseconds", fontsize="small")
    figure.supylabel("rank", fontsize="small")
    marks = [Patch(color=f"C{number}") for number in range(len(roles))]
    figure.legend(marks, [role.replace("_", " ") for role in roles], loc="outside lower center", ncols=len(roles),
                  fontsize="small")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _figure(height: float, width: float = 7.5) -> Figure:
    """In inches. Raises `UserError` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("drawings need matplotlib: pip install '.[dev]'") from error
    return Figure(figsize=(width, height), layout="constrained")
