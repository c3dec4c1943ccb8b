"""Maps of the distance to an edge of a face (spec: data 6.5)."""

from typing import Any

import cv2
import numpy as np

from vid2vid_dist.compiled import compiled
from vid2vid_dist.data.face_curves import Stroke

FAR = 3 * 255  # pixels: farther is as far


def fill_distances(out: np.ndarray, edge: Stroke) -> None:
    """Fill a map `out` (h, w) uint8 with distances to an edge, whose place is counted from the map's first pixel.

    A distance is a third of the pixels to the nearest pixel of the edge, along the axes, at most 255.
    """
    inside = cv2.distanceTransform(255 - edge.pixels, cv2.DIST_L1, 3)
    _fill(out, np.minimum(inside, FAR).astype(np.uint16), edge.y, edge.x)


@compiled
def _fill(out: Any, inside: Any, top: int, left: int) -> None:
    """Beyond the edge's rectangle, of which the distances are given, they grow by one with every pixel."""
    (height, width), (last_y, last_x) = out.shape, (inside.shape[0] - 1, inside.shape[1] - 1)
    near, beside = np.empty(width, np.int64), np.empty(width, np.uint16)
    for x in range(width):
        near[x] = min(max(x - left, 0), last_x)
        beside[x] = min(abs(x - left - near[x]), FAR)
    row, above = np.empty(width, np.uint16), -1
    for y in range(height):
        near_y = min(max(y - top, 0), last_y)
        if near_y != above:
            above = near_y
            for x in range(width):
                row[x] = inside[near_y, near[x]] + beside[x]
        more = np.uint16(min(abs(y - top - near_y), FAR))
        for x in range(width):
            out[y, x] = min(np.uint16(row[x] + more) // np.uint16(3), np.uint16(255))
