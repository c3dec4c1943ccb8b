"""A plan as a picture: one row per rank, one bar per task, time to the right. SVG, to be put into a paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from vid2vid_dist.engine.plan.schedule import Run
from vid2vid_dist.engine.plan.tasks import Kind

WIDTH, LEFT, TOP, ROW, GAP = 1200.0, 74.0, 58.0, 26.0, 5.0  # pixels
FONT = "font-family='Helvetica,Arial,sans-serif'"

# One hue per role, the lighter the further from the chain of frames. Safe for the common colour blindnesses.
COLOURS = {
    Kind.LABEL: "#9ecae1", Kind.FOREGROUND: "#c6dbef", Kind.SYNTHESIS: "#2171b5",
    Kind.BACKWARD: "#08306b", Kind.FOREGROUND_BACKWARD: "#4a6fa5", Kind.FLOW_LOSS: "#6baed6",
    Kind.IMAGE_REAL: "#fdd0a2", Kind.IMAGE_FAKE: "#f16913", Kind.IMAGE_BACKWARD: "#a63603",
    Kind.TEMPORAL_REAL: "#dadaeb", Kind.TEMPORAL_FAKE: "#807dba", Kind.TEMPORAL_BACKWARD: "#54278f",
    Kind.PERCEPTUAL_REAL: "#c7e9c0", Kind.PERCEPTUAL_FAKE: "#41ab5d",
    Kind.FLOW: "#d9d9d9", Kind.SKIPPED_FLOW: "#bdbdbd", Kind.REDUCE: "#ffffff", Kind.UPDATE: "#252525",
}
LIGHT_TEXT = {Kind.SYNTHESIS, Kind.BACKWARD, Kind.FOREGROUND_BACKWARD, Kind.IMAGE_BACKWARD, Kind.TEMPORAL_BACKWARD,
              Kind.TEMPORAL_FAKE, Kind.UPDATE}


def draw(runs: Sequence[Run], n_slots: int, title: str, subtitle: str = "", names: Sequence[str] = ()) -> str:
    """The SVG text of some runs; `names` of the rows, "rank N" otherwise.

    A bar says lane.frame where there is room. Reductions, which go on beside the tasks, are outlined below
    their row.
    """
    begin = min(run.start for run in runs)
    scale = (WIDTH - LEFT - 16) / (max(run.end for run in runs) - begin)
    kinds = [kind for kind in Kind if any(run.task.kind == kind for run in runs)]
    bottom = TOP + n_slots * (ROW + GAP)
    parts = [f"<text x='{LEFT}' y='22' font-size='16' font-weight='bold'>{escape(title)}</text>",
             f"<text x='{LEFT}' y='41' font-size='12' fill='#555'>{escape(subtitle)}</text>"]
    for slot in range(n_slots):
        y = TOP + slot * (ROW + GAP)
        name = names[slot] if names else f"rank {slot}"
        parts.append(f"<rect x='{LEFT}' y='{y}' width='{WIDTH - LEFT - 16:.1f}' height='{ROW}' fill='#f7f7f7'/>")
        parts.append(f"<text x='{LEFT - 8}' y='{y + ROW / 2 + 4}' font-size='12' text-anchor='end'>"
                     f"{escape(name)}</text>")
    parts += _axis((WIDTH - LEFT - 16) / scale, scale, bottom)
    parts += [_bar(run, LEFT + (run.start - begin) * scale, (run.end - run.start) * scale) for run in runs]
    parts += _legend(kinds, bottom + 44)
    height = bottom + 44 + 20 * -(-len(kinds) // 6)
    return (f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH:g} {height:g}' width='{WIDTH:g}' "
            f"height='{height:g}' {FONT}>\n<rect width='100%' height='100%' fill='white'/>\n"
            + "\n".join(parts) + "\n</svg>\n")


def _bar(run: Run, x: float, width: float) -> str:
    task = run.task
    y, height, style = TOP + run.slot * (ROW + GAP), ROW, "stroke='white' stroke-width='0.5'"
    if task.kind == Kind.REDUCE:
        y, height, style = y + ROW, GAP - 1, "stroke='#252525' stroke-width='0.8'"
    tip = f"<title>{escape(task.name)}: {1e3 * run.start:.2f} – {1e3 * run.end:.2f} ms</title>"
    bar = (f"<rect x='{x:.2f}' y='{y:.1f}' width='{max(width, 0.4):.2f}' height='{height:.1f}' "
           f"fill='{COLOURS[task.kind]}' {style}>{tip}</rect>")
    label = f"{task.lane}.{task.frames[0]}" if task.lane >= 0 and task.frames else ""
    if not label or width < 7 * len(label):
        return bar
    colour = "white" if task.kind in LIGHT_TEXT else "#252525"
    return bar + (f"<text x='{x + width / 2:.2f}' y='{y + ROW / 2 + 4:.1f}' font-size='10.5' text-anchor='middle' "
                  f"fill='{colour}' pointer-events='none'>{label}</text>")


def _axis(seconds: float, scale: float, y: float) -> list[str]:
    """Ticks at 1, 2 or 5 times a power of ten of milliseconds, about ten of them."""
    wanted = 1e3 * seconds / 10
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= wanted)
    parts, n_ticks = [], int(1e3 * seconds / step) + 1
    for tick in range(n_ticks):
        x = LEFT + tick * step / 1e3 * scale
        unit = " ms" if tick == n_ticks - 1 else ""
        parts.append(f"<path d='M{x:.1f} {TOP - 4}V{y}' stroke='#ccc' stroke-width='0.6'/>")
        parts.append(f"<text x='{x:.1f}' y='{y + 14}' font-size='11' text-anchor='middle'>{tick * step:g}{unit}</text>")
    return parts


def _legend(kinds: Sequence[Kind], y: float) -> list[str]:
    parts = []
    for index, kind in enumerate(kinds):
        x, line = LEFT + index % 6 * 185, y + index // 6 * 20
        border = "#252525" if kind == Kind.REDUCE else "none"
        parts.append(f"<rect x='{x}' y='{line - 11}' width='14' height='12' fill='{COLOURS[kind]}' stroke='{border}'/>")
        parts.append(f"<text x='{x + 20}' y='{line}' font-size='12'>{str(kind).replace('_', ' ')}</text>")
    return parts
