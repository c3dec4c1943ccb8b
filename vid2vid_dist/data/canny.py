"""Canny edges of a part of a frame, bit for bit those that scikit-image finds in all of it (spec: data 6.5)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vid2vid_dist.data.geometry import Box

LOW, HIGH = 0.1, 0.2
"""Slopes: an edge is what is above LOW and hangs together with something above HIGH. Grey has a range of 1."""
STRONG, UNDECIDED = 1, 2
RADIUS = 4  # pixels, of a Gaussian of sigma 1
MARGIN = RADIUS + 2  # pixels that an edge's depends on: those of the slopes, and of the slopes beside it
STRIP = 96  # rows that are worked on together: their arrays stay in the processor's cache
FIRST_REACH = 32  # pixels around the part, in which most edges that leave it end or are decided


def canny_edges(image: Image.Image, box: Box) -> np.ndarray:
    """(h, w) bool of the part `box` of an RGB frame: skimage.feature.canny(grey frame, sigma=1)."""
    import cv2  # here, as below: other tasks go without OpenCV, SciPy and scikit-image

    reach, whole = FIRST_REACH, (0, 0, image.width, image.height)
    while True:
        known = _grown(box, reach, whole)
        strips = [(known[0], y, known[2], min(y + STRIP, known[3])) for y in range(known[1], known[3], STRIP)]
        strengths = np.concatenate([_strengths_in(image, strip) for strip in strips])
        count, labels = cv2.connectedComponents((strengths > 0).view(np.uint8), connectivity=8)
        # What leaves the known part without being strong there may be so elsewhere.
        (height, width), rim = labels.shape, np.ones_like(labels, bool)
        left, top, right, bottom = (int(a != b) for a, b in zip(known, whole, strict=True))
        rim[top : height - bottom, left : width - right] = False
        verdicts = np.zeros(count, np.uint8)
        verdicts[labels[rim]] = UNDECIDED
        verdicts[0] = 0
        verdicts[labels[strengths >= HIGH]] = STRONG
        found = verdicts[labels[_within(box, known)]]
        if (found != UNDECIDED).all():
            return found == STRONG
        reach *= 4


def _strengths_in(image: Image.Image, box: Box) -> np.ndarray:
    seen = _grown(box, MARGIN, (0, 0, image.width, image.height))
    return edge_strengths(np.asarray(image.crop(seen).convert("L")))[_within(box, seen)]


def edge_strengths(grey: np.ndarray) -> np.ndarray:
    """(H, W) float64: slopes above LOW where they are the largest ones across an edge, else 0.

    The operations are scikit-image's on doubles, in its order; it blurs an image of ones as well, takes slopes with
    several times as much work, and looks at whole frames only.
    """
    from skimage.feature._canny_cy import _nonmaximum_suppression_bilinear
    from skimage.filters import gaussian

    def blurred(image: np.ndarray) -> np.ndarray:
        return gaussian(image, sigma=1.0, mode="constant", truncate=RADIUS)

    # How much of the blur lies in the frame: alike beyond RADIUS pixels from its border.
    lengths = [min(n, 2 * RADIUS + 1) for n in grey.shape]
    rows, columns = (np.minimum(np.arange(n), RADIUS) + np.maximum(np.arange(n) - n + few - RADIUS, 0)
                     for n, few in zip(grey.shape, lengths, strict=True))
    weights = blurred(np.ones(lengths)) + np.finfo(float).eps
    smooth = np.pad(blurred(grey) / weights[rows][:, columns], 1, "edge")
    dx, dy = smooth[:, 2:] - smooth[:, :-2], smooth[2:] - smooth[:-2]
    dx, dy = dx[1:-1] * 2 + (dx[:-2] + dx[2:]), dy[:, 1:-1] * 2 + (dy[:, :-2] + dy[:, 2:])
    inner = np.zeros(grey.shape, bool)
    inner[1:-1, 1:-1] = True
    return _nonmaximum_suppression_bilinear(dy, dx, np.sqrt(dy * dy + dx * dx), inner, LOW)


def _grown(box: Box, by: int, whole: Box) -> Box:
    left, top, right, bottom = box
    return (max(left - by, whole[0]), max(top - by, whole[1]), min(right + by, whole[2]), min(bottom + by, whole[3]))


def _within(box: Box, around: Box) -> tuple[slice, slice]:
    """Rows and columns of `box` in an array of `around`."""
    left, top, right, bottom = box
    return slice(top - around[1], bottom - around[1]), slice(left - around[0], right - around[0])
