"""Canny edges of a part of a frame, bit for bit those that scikit-image finds in all of it (spec: data 6.5).

It imports OpenCV, scikit-image and numba: other tasks go without, and without this module.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image
from skimage.feature._canny_cy import _nonmaximum_suppression_bilinear

from vid2vid_dist.compiled import compiled
from vid2vid_dist.data.geometry import Box

LOW, HIGH = 0.1, 0.2
"""Slopes: an edge is what is above LOW and hangs together with something above HIGH. Grey has a range of 1."""
WEAK, STRONG, UNDECIDED = 1, 2, 3
RADIUS = 4  # pixels, of a Gaussian of sigma 1
MARGIN = RADIUS + 2  # pixels that an edge's depends on: those of the slopes, and of the slopes beside it
STRIP = 96  # rows that are worked on together: their arrays stay in the processor's cache
FIRST_REACH = 32  # pixels around the part, in which most edges that leave it end or are decided


def canny_edges(image: Image.Image, box: Box) -> np.ndarray:
    """(h, w) bool of the part `box` of an RGB frame: skimage.feature.canny(grey frame, sigma=1)."""
    reach, whole = FIRST_REACH, (0, 0, image.width, image.height)
    while True:
        known = _grown(box, reach, whole)
        strips = [(known[0], y, known[2], min(y + STRIP, known[3])) for y in range(known[1], known[3], STRIP)]
        edges = np.concatenate([_edges_in(image, strip) for strip in strips])
        count, labels = cv2.connectedComponents(edges, connectivity=8)
        # What leaves the known part without being strong there may be so elsewhere.
        (height, width), rim = labels.shape, np.ones_like(labels, bool)
        left, top, right, bottom = (int(a != b) for a, b in zip(known, whole, strict=True))
        rim[top : height - bottom, left : width - right] = False
        verdicts = np.zeros(count, np.uint8)
        verdicts[labels[rim]] = UNDECIDED
        verdicts[0] = 0
        verdicts[labels[edges == STRONG]] = STRONG
        found = verdicts.take(labels[_within(box, known)])  # half the time of an index
        if (found != UNDECIDED).all():
            return found == STRONG
        reach *= 4


def _edges_in(image: Image.Image, box: Box) -> np.ndarray:
    """(h, w) uint8: WEAK and STRONG edges, else 0."""
    seen = _grown(box, MARGIN, (0, 0, image.width, image.height))
    strengths = edge_strengths(np.asarray(image.crop(seen).convert("L")))[_within(box, seen)]
    return (strengths > 0) * np.uint8(WEAK) + (strengths >= HIGH) * np.uint8(STRONG - WEAK)


def edge_strengths(grey: np.ndarray) -> np.ndarray:
    """(H, W) float64: slopes above LOW where they are the largest ones across an edge, else 0.

    The operations are scikit-image's on doubles, in its order; it blurs an image of ones as well, takes several times
    as long, and looks at whole frames only.
    """
    kernel = np.exp(-0.5 * np.arange(-RADIUS, RADIUS + 1) ** 2)
    kernel /= kernel.sum()
    # How much of the blur lies in the frame: alike beyond RADIUS pixels from its border.
    lengths = [min(n, 2 * RADIUS + 1) for n in grey.shape]
    rows, columns = (np.minimum(np.arange(n), RADIUS) + np.maximum(np.arange(n) - n + few - RADIUS, 0)
                     for n, few in zip(grey.shape, lengths, strict=True))
    weights = _blurred(np.ones(lengths), kernel) + np.finfo(float).eps
    inner = np.zeros(grey.shape, bool)
    inner[1:-1, 1:-1] = True
    slopes = _slopes(_blurred(grey * (1 / 255), kernel), weights[:, columns], rows)
    return _nonmaximum_suppression_bilinear(*slopes, inner, LOW)


@compiled
def _blurred(image: Any, kernel: Any) -> Any:
    """(H, W) float64, black outside, times the kernel (2 * RADIUS + 1,) along y, then along x: SciPy's order."""
    height, width = image.shape
    padded, row = np.zeros((height + 2 * RADIUS, width)), np.zeros(width + 2 * RADIUS)
    padded[RADIUS:RADIUS + height] = image
    blurred = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            total = padded[y + RADIUS, x] * kernel[RADIUS]
            for i in range(RADIUS):
                total += (padded[y + i, x] + padded[y + 2 * RADIUS - i, x]) * kernel[i]
            row[RADIUS + x] = total
        for x in range(width):
            total = row[x + RADIUS] * kernel[RADIUS]
            for i in range(RADIUS):
                total += (row[x + i] + row[x + 2 * RADIUS - i]) * kernel[i]
            blurred[y, x] = total
    return blurred


@compiled
def _slopes(blurred: Any, weights: Any, rows: Any) -> Any:
    """Slopes (H, W) float64 along y and x, and how steep they are, of what is blurred by row y of the weights."""
    height, width = blurred.shape
    smooth = np.empty((height + 2, width + 2))  # its border is there twice
    for y in range(height):
        for x in range(width):
            smooth[y + 1, x + 1] = blurred[y, x] / weights[rows[y], x]
    smooth[0], smooth[-1] = smooth[1], smooth[-2]
    smooth[:, 0], smooth[:, -1] = smooth[:, 1], smooth[:, -2]
    down, across, steep = np.empty((height, width)), np.empty((height, width)), np.empty((height, width))
    for y in range(height):
        above, here, below = smooth[y], smooth[y + 1], smooth[y + 2]
        for x in range(width):
            dy = (below[x + 1] - above[x + 1]) * 2 + ((below[x] - above[x]) + (below[x + 2] - above[x + 2]))
            dx = (here[x + 2] - here[x]) * 2 + ((above[x + 2] - above[x]) + (below[x + 2] - below[x]))
            down[y, x], across[y, x], steep[y, x] = dy, dx, np.sqrt(dy * dy + dx * dx)
    return down, across, steep


def _grown(box: Box, by: int, whole: Box) -> Box:
    left, top, right, bottom = box
    return (max(left - by, whole[0]), max(top - by, whole[1]), min(right + by, whole[2]), min(bottom + by, whole[3]))


def _within(box: Box, around: Box) -> tuple[slice, slice]:
    """Rows and columns of `box` in an array of `around`."""
    left, top, right, bottom = box
    return slice(top - around[1], bottom - around[1]), slice(left - around[0], right - around[0])
