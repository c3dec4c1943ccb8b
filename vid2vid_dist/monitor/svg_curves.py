"""Small curves as inline SVG."""

from collections.abc import Sequence
from html import escape

import numpy as np

POINTS = 240  # a curve is drawn with at most so many points
WIDTH, HEIGHT = 300.0, 90.0


def curve(name: str, steps: Sequence[int], values: Sequence[float], unit: str = "step") -> str:
    """A card with the curve of `values` over `steps`, counted in `unit`: the mean as a line, the spread as a band.

    Values that are not finite leave a gap. Far outliers are cut off, since they would flatten the rest.
    """
    data = np.asarray(values, dtype=float)
    finite = np.isfinite(data)
    low, high = _range(data[finite]) if finite.any() else (0.0, 0.0)
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    bottom, top = low - margin, high + margin

    span = max(steps[-1] - steps[0], 1)
    groups = np.array_split(np.arange(len(data)), min(POINTS, len(data)))
    # Pieces between gaps, of points (x, y of the mean, y of the smallest, y of the largest).
    lines: list[list[tuple[float, float, float, float]]] = [[]]
    for group in groups:
        kept = group[finite[group]]
        if len(kept) == 0:
            lines.append([])
            continue
        x = float(np.mean([steps[i] - steps[0] for i in kept])) / span * WIDTH
        y = np.clip((top - data[kept]) / (top - bottom), 0, 1) * HEIGHT
        lines[-1].append((x, float(y.mean()), float(y.max()), float(y.min())))

    shapes = []
    for line in filter(None, lines):
        if len(line) == 1:
            line.append((line[0][0] + 1, *line[0][1:]))  # a lone point would not be drawn
        upper = [(x, y) for x, _, _, y in line]
        lower = [(x, y) for x, _, y, _ in reversed(line)]
        shapes.append(f'<polygon class="band" points="{_points(upper + lower)}"/>')
        shapes.append(f'<polyline class="mean" vector-effect="non-scaling-stroke" '
                      f'points="{_points([(x, mean) for x, mean, _, _ in line])}"/>')
    name, box = escape(name), f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none"'
    return (
        f'<div class="card"><div class="name"><span>{name}</span><b>{number(data[-1])}</b></div>'
        f'<div class="axis"><span>{number(high)}</span></div>'
        f'<svg {box} role="img" aria-label="{name}">{"".join(shapes)}</svg>'
        f'<div class="axis"><span>{number(low)}</span><span>{unit} {steps[0]} – {steps[-1]}</span></div></div>'
    )


def _range(data: np.ndarray) -> tuple[float, float]:
    p1, p99 = np.percentile(data, [1, 99])
    reach = (p99 - p1) / 2
    return max(data.min(), p1 - reach), min(data.max(), p99 + reach)


def number(value: float) -> str:
    """A figure with three digits, short for very large and small ones."""
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e+")


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
