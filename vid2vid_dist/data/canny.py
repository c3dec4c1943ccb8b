"""Canny edges of a part of a frame, bit for bit those that scikit-image finds in all of it (spec: data 6.5).

It imports OpenCV, SciPy and numba: other tasks go without, and without this module.
"""

from typing import Any

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from vid2vid_dist.compiled import compiled
from vid2vid_dist.data.geometry import Box

LOW, HIGH = float(np.float32(0.1)), 0.2  # in scikit-image a number of 32 bits, and one of 64
"""Slopes: an edge is what is above LOW and hangs together with something above HIGH. Grey has a range of 1."""
WEAK, STRONG, UNDECIDED = 1, 2, 3
RADIUS = 4  # pixels, of a Gaussian of sigma 1
MARGIN = RADIUS + 2  # pixels that an edge's depends on: those of the slopes, and of the slopes beside it
FIRST_REACH = 32  # pixels around the part, in which most edges that leave it end or are decided


def canny_edges(image: Image.Image, box: Box) -> np.ndarray:
    """(h, w) bool of the part `box` of an RGB frame: skimage.feature.canny(grey frame, sigma=1)."""
    reach, whole = FIRST_REACH, (0, 0, image.width, image.height)
    while True:
        known = _grown(box, reach, whole)
        edges = _edges_in(image, known)
        count, labels = cv2.connectedComponents(edges, connectivity=8)
        # What leaves the known part without being strong there may be so elsewhere.
        (height, width), rim = labels.shape, np.ones_like(labels, bool)
        left, top, right, bottom = (int(a != b) for a, b in zip(known, whole, strict=True))
        rim[top : height - bottom, left : width - right] = False
        verdicts = np.zeros(count, np.uint8)
        verdicts[labels[rim]] = UNDECIDED
        verdicts[labels[edges == STRONG]] = STRONG
        here = edges > 0
        edges[here] = verdicts[labels[here]]
        found = edges[_within(box, known)]
        if (found != UNDECIDED).all():
            return found == STRONG
        reach *= 4


def _edges_in(image: Image.Image, box: Box) -> np.ndarray:
    """(h, w) uint8: WEAK and STRONG edges, else 0."""
    seen = _grown(box, MARGIN, (0, 0, image.width, image.height))
    grey = np.asarray(image.crop(seen).convert("L"))
    # How much of the blur lies in the frame: alike beyond RADIUS pixels from its border.
    lengths = [min(n, 2 * RADIUS + 1) for n in grey.shape]
    rows, columns = (np.minimum(np.arange(n), RADIUS) + np.maximum(np.arange(n) - n + few - RADIUS, 0)
                     for n, few in zip(grey.shape, lengths, strict=True))
    parts = _blurred(np.ones(lengths)) + np.finfo(float).eps
    kernel = _blurred(np.eye(1, 2 * RADIUS + 1, RADIUS)[0])
    return _edges(grey, kernel, parts[:, columns], rows)[_within(box, seen)]


def _blurred(values: np.ndarray) -> np.ndarray:
    return gaussian_filter(values, 1.0, mode="constant", truncate=RADIUS)


@compiled
def _edges(grey: Any, kernel: Any, parts: Any, rows: Any) -> Any:
    """(H, W) uint8: WEAK and STRONG. Of the blur of row y as much lies in the frame as `parts[rows[y]]` (W,) says.

    On doubles, in the order of SciPy's and scikit-image's operations. Each row goes through all of them while it is in
    the processor's cache; of arrays of some rows, row y is number y modulo their length.
    """
    height, width = grey.shape
    edges = np.zeros((height, width), np.uint8)
    light, line = np.zeros((2 * RADIUS + 1, width)), np.zeros(width + 2 * RADIUS)
    smooth, slopes = np.empty((3, width + 2)), np.empty((3, 3, width))
    for y in range(-RADIUS, height + 1):
        lit = light[(y + RADIUS) % len(light)]
        if y + RADIUS < height:
            for x in range(width):
                lit[x] = grey[y + RADIUS, x] * (1 / 255)
        else:
            lit[:] = 0
        if 0 <= y < height:
            _blur(light, y, kernel, line, parts[rows[y]], smooth[y % 3])
        if y > 0:
            _slope(smooth[max(y - 2, 0) % 3], smooth[(y - 1) % 3], smooth[min(y, height - 1) % 3], slopes[(y - 1) % 3])
        if y > 2:
            _thin(slopes[y % 3, 2], slopes[(y - 2) % 3], slopes[(y - 1) % 3, 2], edges[y - 2])
    return edges


@compiled
def _blur(light: Any, y: int, kernel: Any, line: Any, part: Any, smooth: Any) -> None:
    """Row y of `light` along y, in `line` with RADIUS black pixels around it, then along x; in `smooth` (W + 2,)."""
    width = len(part)
    middle, within = light[y % len(light)], line[RADIUS:]
    for x in range(width):
        within[x] = middle[x] * kernel[RADIUS]
    for i in range(RADIUS):  # pairs from without
        above, below = light[(y - RADIUS + i) % len(light)], light[(y + RADIUS - i) % len(light)]
        for x in range(width):
            within[x] += (above[x] + below[x]) * kernel[i]
    for x in range(width):
        total = line[x + RADIUS] * kernel[RADIUS]
        for i in range(RADIUS):
            total += (line[x + i] + line[x + 2 * RADIUS - i]) * kernel[i]
        smooth[x + 1] = total / part[x]
    smooth[0], smooth[width + 1] = smooth[1], smooth[width]


@compiled
def _slope(above: Any, here: Any, below: Any, slopes: Any) -> None:
    """Along y, along x, and how steep they are together: `slopes` (3, W) of three smooth rows (W + 2,)."""
    for x in range(slopes.shape[1]):
        dy = (below[x + 1] - above[x + 1]) * 2 + ((below[x] - above[x]) + (below[x + 2] - above[x + 2]))
        dx = (here[x + 2] - here[x]) * 2 + ((above[x + 2] - above[x]) + (below[x + 2] - below[x]))
        slopes[0, x], slopes[1, x], slopes[2, x] = dy, dx, np.sqrt(dy * dy + dx * dx)


@compiled
def _thin(above: Any, slopes: Any, below: Any, edges: Any) -> None:
    """Mark what no neighbour across the edge is steeper than, on either side: between two pixels it is in proportion.

    `above` and `below` (W,): how steep the rows beside are.
    """
    here = slopes[2]
    for x in range(1, len(here) - 1):
        most = here[x]
        if most < LOW:
            continue
        dy, dx = slopes[0, x], slopes[1, x]
        right, left = (below, above) if (dy > 0) == (dx > 0) else (above, below)
        if abs(dy) > abs(dx):
            share, next_right, next_left = abs(dx) / abs(dy), right[x], left[x]
        else:
            share, next_right, next_left = abs(dy) / abs(dx), here[x + 1], here[x - 1]
        if (right[x + 1] * share + next_right * (1 - share) <= most
                and left[x - 1] * share + next_left * (1 - share) <= most):
            edges[x] = STRONG if most >= HIGH else WEAK


def _grown(box: Box, by: int, whole: Box) -> Box:
    left, top, right, bottom = box
    return (max(left - by, whole[0]), max(top - by, whole[1]), min(right + by, whole[2]), min(bottom + by, whole[3]))


def _within(box: Box, around: Box) -> tuple[slice, slice]:
    """Rows and columns of `box` in an array of `around`."""
    left, top, right, bottom = box
    return slice(top - around[1], bottom - around[1]), slice(left - around[0], right - around[0])
