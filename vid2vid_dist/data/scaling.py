"""Maps scaled by Pillow's bilinear filter, bit for bit: many at once, and no more of them than is shown.

Pillow weighs the pixels below a triangle with whole numbers, along one axis after the other, and rounds to 8 bits after
each. Which axis comes first shows in the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import PIL

from vid2vid_dist.compiled import compiled

SINCE_13 = int(PIL.__version__.split(".")[0]) >= 13
BITS = 22  # of a weight's fraction
HALF = 1 << BITS - 1


@dataclass(frozen=True)
class Axis:
    """`length` pixels become `scaled`, of which the `kept` ones are wanted; those that are not `shown` are black."""

    length: int
    scaled: int
    shown: range
    kept: range

    def taps(self) -> Taps:
        scale = self.length / self.scaled
        reach = max(scale, 1.0)
        centres = (np.array(self.kept) + 0.5) * scale
        first = np.maximum((centres - reach + 0.5).astype(int), 0)
        places = first + np.arange(math.ceil(reach) * 2 + 1)[:, None]
        weights = np.maximum(1 - np.abs((places - centres + 0.5) * (1 / reach)), 0)
        weights[places >= np.minimum((centres + reach + 0.5).astype(int), self.length)] = 0
        weights /= np.cumsum(weights, axis=0)[-1]  # `sum` adds in another order
        weights[(places < self.shown.start) | (places >= self.shown.stop)] = 0
        places = np.clip(places - self.shown.start, 0, len(self.shown) - 1)
        used = weights.any(axis=1)
        used[0] = True  # where all is black
        return Taps(places[used].astype(np.uint32), (weights[used] * (1 << BITS) + 0.5).astype(np.int32))


class Taps(NamedTuple):
    """Of each pixel (n,) along an axis of the result: K places among those that are shown, and what each counts."""

    places: np.ndarray  # (K, n) uint32: what cannot be negative is faster as an index
    weights: np.ndarray  # (K, n) int32


def scale(maps: np.ndarray, y: Axis, x: Axis) -> np.ndarray:
    """(C, h, w) uint8 of what is shown -> (C, H, W) uint8 of what is kept."""
    assert maps.size, "a part of a frame is shown"
    if SINCE_13 and y.scaled < y.length and y.length - y.scaled > 2 * (x.length - x.scaled):
        return _scale(maps.swapaxes(1, 2), x.taps(), y.taps()).swapaxes(1, 2)
    return _scale(maps, y.taps(), x.taps())


@compiled
def _scale(maps: Any, y: Any, x: Any) -> Any:
    """Along x, then along y. No sum is beyond 8 bits: no weight is negative, together they are 1 but for rounding."""
    height, width = y.places.shape[1], x.places.shape[1]
    scaled, rows = np.empty((len(maps), height, width), np.uint8), np.empty((maps.shape[1], width), np.uint8)
    sums, picked = np.empty(width, np.int32), np.empty(width, np.uint8)
    for number in range(len(maps)):
        for row in range(y.places.min(), y.places.max() + 1):
            sums[:] = HALF
            for k in range(len(x.places)):
                for i in range(width):  # apart from the sum, of which many are computed at once
                    picked[i] = maps[number, row, x.places[k, i]]
                for i in range(width):
                    sums[i] += np.int32(picked[i]) * x.weights[k, i]
            for i in range(width):
                rows[row, i] = sums[i] >> BITS
        for j in range(height):
            sums[:] = HALF
            for k in range(len(y.places)):
                row, weight = y.places[k, j], y.weights[k, j]
                for i in range(width):
                    sums[i] += np.int32(rows[row, i]) * weight
            for i in range(width):
                scaled[number, j, i] = sums[i] >> BITS
    return scaled
