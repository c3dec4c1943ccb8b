"""A plan as a picture: one row per rank, one bar per task, time to the right. SVG, to be put into a paper."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from vid2vid_dist.engine.plan.schedule import Run
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, Kind, Task

WIDTH, LEFT, TOP, ROW, GAP = 1200.0, 74.0, 58.0, 26.0, 5.0  # pixels
FONT = "font-family='Helvetica,Arial,sans-serif'"

# A hue per role (`RoleSpec.colour`); the lighter, the further from the chain of frames.
SHADES = {Kind.STYLE: 0.8, Kind.LABEL: 0.6, Kind.FOREGROUND: 0.75, Kind.PAST: 0.15, Kind.FLOW: 0.3, Kind.BLEND: 0.45,
          Kind.REAL: 0.65, Kind.CRITIC_BACKWARD: -0.45, Kind.SYNTHESIS_BACKWARD: -0.6, Kind.FLOW_BACKWARD: -0.5,
          Kind.PAST_BACKWARD: -0.4, Kind.LABEL_BACKWARD: -0.2, Kind.FOREGROUND_BACKWARD: -0.3,
          Kind.STYLE_BACKWARD: -0.15}
DARK, LIGHT = "#252525", "#ffffff"


def colour(task: Task, colours: Mapping[str, str]) -> str:
    """Of a task's bar: its role's, towards white or black by what it does."""
    if task.kind in COLLECTIVE:
        return LIGHT if task.kind == Kind.REDUCE else DARK
    shade, base = SHADES.get(task.kind, 0.0), colours[task.role]
    channels = [int(base[i : i + 2], 16) for i in (1, 3, 5)]
    mixed = [round(x + (255 - x) * shade if shade > 0 else x * (1 + shade)) for x in channels]
    return "#" + "".join(f"{x:02x}" for x in mixed)


def text_colour(background: str) -> str:
    """Readable on it."""
    red, green, blue = (int(background[i : i + 2], 16) for i in (1, 3, 5))
    return DARK if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else LIGHT


def draw(runs: Sequence[Run], n_slots: int, colours: Mapping[str, str], title: str, subtitle: str) -> str:
    """The SVG text of some runs; `colours` by role.

    A bar says lane.frame where there is room. Reductions, which go on beside the tasks, are outlined below their row.
    """
    begin = min(run.start for run in runs)
    scale = (WIDTH - LEFT - 16) / (max(run.end for run in runs) - begin)
    alike = {(run.task.role, run.task.kind): run.task for run in runs if run.task.kind not in COLLECTIVE}
    legend = {f"{role} {kind}".replace("_", " "): colour(task, colours) for (role, kind), task in sorted(alike.items())}
    legend |= {str(kind): LIGHT if kind == Kind.REDUCE else DARK for kind in COLLECTIVE
               if any(run.task.kind == kind for run in runs)}
    bottom = TOP + n_slots * (ROW + GAP)
    parts = [f"<text x='{LEFT}' y='22' font-size='16' font-weight='bold'>{escape(title)}</text>",
             f"<text x='{LEFT}' y='41' font-size='12' fill='#555'>{escape(subtitle)}</text>"]
    for slot in range(n_slots):
        y = TOP + slot * (ROW + GAP)
        parts.append(f"<rect x='{LEFT}' y='{y}' width='{WIDTH - LEFT - 16:.1f}' height='{ROW}' fill='#f7f7f7'/>")
        parts.append(f"<text x='{LEFT - 8}' y='{y + ROW / 2 + 4}' font-size='12' text-anchor='end'>rank {slot}</text>")
    parts += _axis((WIDTH - LEFT - 16) / scale, scale, bottom)
    parts += [_bar(run, colour(run.task, colours), LEFT + (run.start - begin) * scale, (run.end - run.start) * scale)
              for run in runs]
    parts += _legend(legend, bottom + 44)
    height = bottom + 44 + 20 * -(-len(legend) // 6)
    return (f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH:g} {height:g}' width='{WIDTH:g}' "
            f"height='{height:g}' {FONT}>\n<rect width='100%' height='100%' fill='white'/>\n"
            + "\n".join(parts) + "\n</svg>\n")


def _bar(run: Run, fill: str, x: float, width: float) -> str:
    task = run.task
    y, height, style = TOP + run.slot * (ROW + GAP), ROW, "stroke='white' stroke-width='0.5'"
    if task.kind == Kind.REDUCE:
        y, height, style = y + ROW, GAP - 1, "stroke='#252525' stroke-width='0.8'"
    tip = f"<title>{escape(task.name)}: {1e3 * run.start:.2f} – {1e3 * run.end:.2f} ms</title>"
    bar = (f"<rect x='{x:.2f}' y='{y:.1f}' width='{max(width, 0.4):.2f}' height='{height:.1f}' "
           f"fill='{fill}' {style}>{tip}</rect>")
    label = f"{task.lane}.{task.frames[0]}" if task.lane >= 0 and task.frames else ""
    if not label or width < 7 * len(label):
        return bar
    return bar + (f"<text x='{x + width / 2:.2f}' y='{y + ROW / 2 + 4:.1f}' font-size='10.5' text-anchor='middle' "
                  f"fill='{text_colour(fill)}' pointer-events='none'>{label}</text>")


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


def _legend(entries: Mapping[str, str], y: float) -> list[str]:
    parts = []
    for index, (name, fill) in enumerate(entries.items()):
        x, line = LEFT + index % 6 * 185, y + index // 6 * 20
        border = DARK if fill == LIGHT else "none"
        parts.append(f"<rect x='{x}' y='{line - 11}' width='14' height='12' fill='{fill}' stroke='{border}'/>")
        parts.append(f"<text x='{x + 20}' y='{line}' font-size='12'>{name}</text>")
    return parts
