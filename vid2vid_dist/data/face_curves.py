"""Curves through keypoints and the brushes that draw them (spec: data 6.4 and 7.1).

The original fits each curve iteratively and truncates its points to whole pixels. A fit in closed form rounds
differently, and one pixel in a hundred moves; so the fit is MINPACK's here too, from the same start.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Curve:
    """The pixels of a curve in drawing order, as whole numbers; n may be 0."""

    x: np.ndarray  # (n,)
    y: np.ndarray  # (n,)


def curve_through(points: np.ndarray) -> Curve | None:
    """The line through 2 or the parabola through 3 `points` (n, 2) of x, y in pixels.

    None where a parabola would be too steep to draw. Coordinates are truncated towards zero.
    """
    x, y = points.astype(float).T.tolist()
    if max(abs(b - a) for a, b in pairwise(x)) < max(abs(b - a) for a, b in pairwise(y)):
        found = _function(y, x)
        return found and Curve(found.y, found.x)
    return _function(x, y)


def _function(x: list[float], y: list[float]) -> Curve | None:
    """y as a polynomial of x, at whole steps of x."""
    from scipy.optimize import leastsq  # half a second of every rank's start that other tasks need not spend

    polynomial = _line if len(x) == 2 else _parabola
    pairs = list(zip(x, y, strict=True))

    def missed(p: np.ndarray) -> list[float]:  # plain numbers: arrays of 2 or 3 take three times as long
        known = p.tolist()
        return [polynomial(at, *known) - wanted for at, wanted in pairs]

    # With its full output it says nothing where the fit is exact.
    coefficients = leastsq(missed, np.ones(len(x)), full_output=True)[0]
    if len(x) == 3 and abs(coefficients[0]) > 1:
        return None
    low, high = sorted((x[0], x[-1]))
    along = np.linspace(low, high, int(high - low))
    return Curve(along.astype(int), polynomial(along, *coefficients).astype(int))


def _line(x: Any, a: float, b: float) -> Any:
    return a * x + b


def _parabola(x: Any, a: float, b: float, c: float) -> Any:
    return a * (x * x) + b * x + c


def pieces(numbers: list[int]) -> list[list[int]]:
    """A list of points in pieces of 3 that share their ends; the last one may have 2."""
    return [numbers[i : i + 3] for i in range(0, max(1, len(numbers) - 1), 2)]


@dataclass(frozen=True)
class Stroke:
    """Pixels (h, w) uint8, white where something was drawn, of which the first one lies at `x`, `y` of a frame."""

    x: int
    y: int
    pixels: np.ndarray

    @property
    def rows_columns(self) -> tuple[slice, slice]:
        height, width = self.pixels.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)


def stroke(curves: list[Curve], size: tuple[int, int]) -> Stroke | None:
    """Curves two pixels thick in a frame of `size`; what lies outside is moved to the border. None without points."""
    x, y = (np.concatenate([*values, np.empty(0, int)]) for values in ([c.x for c in curves], [c.y for c in curves]))
    if not len(x):
        return None
    width, height = size
    columns, rows = ([np.clip(i + d, 0, n - 1) for d in (-1, 0)] for i, n in ((x, width), (y, height)))
    left, top = int(columns[0].min()), int(rows[0].min())
    pixels = np.zeros((rows[1].max() - top + 1, columns[1].max() - left + 1), np.uint8)
    for i in rows:
        for j in columns:
            pixels[i - top, j - left] = 255
    return Stroke(left, top, pixels)


def brush(canvas: np.ndarray, curve: Curve, size: int, color: Color) -> None:
    """Draw a line 2 * `size` pixels thick with discs at its ends on `canvas` (H, W, 3) uint8.

    The brush moves the whole line from offset to offset. Where all of it falls on black it is painted, else all of
    it is mixed half and half with what is there. Later strokes see earlier ones, so the order of offsets counts.
    What lies outside is moved to the border.
    """
    from vid2vid_dist.data.stamps import stamp  # numba: other tasks go without

    if len(curve.x):
        square, disc = _offsets(size)
        both = [0, -1][: len(curve.x)]
        ends = Curve(curve.x[both], curve.y[both])
        for line, offsets in ((curve, square), (ends, disc)):
            stamp(canvas, line.y, line.x, offsets, np.array(color, np.uint8))


@lru_cache
def _offsets(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a square and of a disc: (k, 2) of y and x, in the order in which they are drawn."""
    square, disc = (np.moveaxis(np.mgrid[-n:n, -n:n], 0, -1).reshape(-1, 2) for n in (size, 2 * size))
    return square, disc[(disc**2).sum(axis=1) < 4 * size * size]
