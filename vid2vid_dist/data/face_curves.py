"""Curves through keypoints and the brushes that draw them (spec: data 6.4 and 7.1).

The original fits each curve iteratively and truncates its points to whole pixels. A fit in closed form rounds
differently, and one pixel in a hundred moves; so the fit is MINPACK's here too, from the same start.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    x, y = points.astype(float).T
    if np.abs(np.diff(x)).max() < np.abs(np.diff(y)).max():
        found = _function(y, x)
        return found and Curve(found.y, found.x)
    return _function(x, y)


def _function(x: np.ndarray, y: np.ndarray) -> Curve | None:
    """y as a polynomial of x, at whole steps of x."""
    from scipy.optimize import leastsq  # half a second of every rank's start that other tasks need not spend

    polynomial = _line if len(x) == 2 else _parabola
    coefficients = leastsq(lambda p: polynomial(x, *p) - y, np.ones(len(x)), full_output=True)[0]
    if len(x) == 3 and abs(coefficients[0]) > 1:
        return None
    low, high = sorted((x[0], x[-1]))
    along = np.linspace(low, high, int(high - low))
    return Curve(along.astype(int), polynomial(along, *coefficients).astype(int))


def _line(x: np.ndarray, a: float, b: float) -> np.ndarray:
    return a * x + b


def _parabola(x: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return a * x**2 + b * x + c


def pieces(numbers: list[int]) -> list[list[int]]:
    """A list of points in pieces of 3 that share their ends; the last one may have 2."""
    return [numbers[i : i + 3] for i in range(0, max(1, len(numbers) - 1), 2)]


def stroke(canvas: np.ndarray, curve: Curve) -> None:
    """Draw a curve two pixels thick in white on `canvas` (H, W) uint8; what lies outside is moved to the border."""
    height, width = canvas.shape
    for dy in (-1, 0):
        for dx in (-1, 0):
            canvas[np.clip(curve.y + dy, 0, height - 1), np.clip(curve.x + dx, 0, width - 1)] = 255


def brush(canvas: np.ndarray, curve: Curve, size: int, color: Color) -> None:
    """Draw a curve 2 * `size` pixels thick with discs at its ends on `canvas` (H, W, 3) uint8.

    The brush moves the whole curve from offset to offset. Where all of it falls on black it is painted, else all of
    it is mixed half and half with what is there. Later strokes see earlier ones, so the order of offsets counts.
    What lies outside is moved to the border, whence it costs no more than the border is long.
    """
    if not len(curve.x):
        return
    curve = pulled_in(curve, canvas.shape[:2], 2 * size)
    offsets = range(-size, size)
    _stamps(canvas, curve, [(dy, dx) for dy in offsets for dx in offsets], color)
    offsets = range(-2 * size, 2 * size)
    disc = [(dy, dx) for dy in offsets for dx in offsets if dy * dy + dx * dx < 4 * size * size]
    _stamps(canvas, Curve(curve.x[[0, -1]], curve.y[[0, -1]]), disc, color)


def pulled_in(curve: Curve, shape: tuple[int, int], margin: int) -> Curve:
    """What brushes whose offsets are at most `margin` need of a curve to draw the same on a canvas of `shape` (H, W).

    Points further outside are moved to `margin` pixels from the border, and stand for all that come to lie there in a
    row: of a line at most 2 * (H + W + 4 * `margin`) points are left, however long it was.
    """
    x, y = (np.clip(values, -margin, length - 1 + margin)
            for values, length in zip((curve.x, curve.y), reversed(shape), strict=True))
    moves = np.flatnonzero((np.diff(x) != 0) | (np.diff(y) != 0)) + 1
    kept = np.concatenate([[0], moves])
    return Curve(x[kept], y[kept])


def _stamps(canvas: np.ndarray, curve: Curve, offsets: list[tuple[int, int]], color: Color) -> None:
    height, width, _ = canvas.shape
    pixels, paint = canvas.reshape(-1, 3), np.array(color, np.uint16)
    dy, dx = np.array(offsets).T[..., None]
    places = np.clip(curve.y + dy, 0, height - 1) * width + np.clip(curve.x + dx, 0, width - 1)
    if len(np.unique(places)) == places.size:  # no stamp sees another one: all at once
        pixels[places] = _painted(pixels[places], paint)
        return
    for place in places:
        pixels[place] = _painted(pixels[place], paint)


def _painted(there: np.ndarray, paint: np.ndarray) -> np.ndarray:
    """(..., n, 3) of stamps of n pixels each."""
    mixed = (there + paint) >> 1
    return np.where(there.any(axis=(-2, -1), keepdims=True), mixed, paint)
