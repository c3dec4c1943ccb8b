"""Landmarks of a face that become a talking head: edge map, distance maps and part labels (spec: data 6).

Everything is drawn on the full frame and cut afterwards: distances and Canny edges depend on what lies outside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.face_curves import curve_through, pieces, stroke
from vid2vid_dist.data.geometry import Box, Geometry, Size
from vid2vid_dist.data.images import read_rgb
from vid2vid_dist.data.tasks.base import DataTask, Modality, Parts
from vid2vid_dist.errors import UserError

if TYPE_CHECKING:
    from vid2vid_dist.data.inputs import FrameFiles

N_LANDMARKS = 68
CROP_WIDTHS = 2.5
"""Side of the crop in widths of the face."""


@dataclass(frozen=True)
class Part:
    """A part of the face: its label and the lists of points that outline it; together they are a polygon."""

    label: int
    edges: list[list[int]]

    @property
    def outline(self) -> list[int]:
        """All edges one after the other; points where they meet come twice."""
        return [number for edge in self.edges for number in edge]


def _run(first: int, last: int, *more: int) -> list[int]:
    return [*range(first, last + 1), *more]


PARTS = (
    Part(1, [[*_run(0, 16), *_run(68, 82), 0]]),  # the face, its upper outline mirrored from the lower one
    Part(2, [_run(17, 21)]),
    Part(2, [_run(22, 26)]),
    Part(3, [[28, 31], _run(31, 35), [35, 28]]),
    Part(4, [_run(36, 39), _run(39, 41, 36)]),
    Part(4, [_run(42, 45), _run(45, 47, 42)]),
    Part(5, [_run(48, 54), _run(54, 59, 48)]),
    Part(6, [_run(60, 64), _run(64, 67, 60)]),
)
"""In the order in which they are filled: later ones lie on top. 14 edges in all."""

N_LABELS = 1 + max(part.label for part in PARTS)
"""With 0 for everything else."""

SCALES = {1: (0.9, 1.0), 3: (0.9, 1.0), 4: (1.0, 1.1), 5: (0.9, 0.9), 6: (0.9, 0.9)}
"""Label -> factors in x and y of `rescaled`."""
TOGETHER = 0.9
"""How much nearer in x `rescaled` brings the two brows, and the two eyes."""


def parse_landmarks(data: bytes, where: str, size: Size | None) -> np.ndarray:
    """(68, 2) x, y in pixels of a file of 68 lines "x,y" (dlib's order); `where` names it in the error.

    Points may lie outside of the frame of `size` by as much as it is wide or high: they are drawn on its border.
    Raises UserError for anything else.
    """
    assert size is not None, "the frame is read first"
    rows = [line for line in data.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    try:
        points = np.array([[float(value) for value in row.replace(",", " ").split()] for row in rows])
    except ValueError:
        points = np.empty(0)
    if len(rows) != N_LANDMARKS or points.shape != (N_LANDMARKS, 2):
        raise UserError(f"{where}: {len(rows)} lines, expected {N_LANDMARKS} lines x,y (one per landmark): detect the "
                        "face again or remove its video")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise UserError(f"{where}:{bad[0] + 1}: a landmark is not a finite number; detect the face again")
    if np.abs(points).max() <= 1:
        raise UserError(f"{where}: all landmarks lie in -1..1: they are no pixels; detect the face again")
    far = np.flatnonzero((points < np.negative(size)).any(axis=1) | (points > 2 * np.array(size)).any(axis=1))
    if len(far):
        raise UserError(f"{where}:{far[0] + 1}: a landmark lies further from the frame of {size[0]}x{size[1]} than "
                        "that is large; landmarks are pixels of the uncut frame: detect the face again")
    if points[:, 0].min() >= points[:, 0].max():
        raise UserError(f"{where}: the face has no width: all landmarks have one x; detect it again")
    return points


def crop_box(points: np.ndarray, size: Size) -> Box:
    """The square of 2.5 face widths around a face: left, top, right, bottom in pixels of a frame of `size`.

    A square that is larger than the frame sticks out of it: what lies there counts as black.
    """
    (x_min, y_min), (x_max, y_max) = points.min(axis=0), points.max(axis=0)
    side = CROP_WIDTHS * (x_max - x_min)
    half = side // 2
    ends = []
    for centre, length in (((x_min + x_max) // 2, size[0]), ((3 * y_min + y_max) // 4, size[1])):
        centre = min(max(0, centre - half) + side, length) - half
        ends.append((int(centre - half), int(centre + half)))
    (left, right), (top, bottom) = ends
    return left, top, right, bottom


def completed(points: np.ndarray) -> np.ndarray:
    """(83, 2): the landmarks and the upper outline of the face, which is the lower one mirrored and flattened."""
    baseline = (points[0, 1] + points[16, 1]) / 2
    upper = points[15:0:-1].copy()
    upper[:, 1] = np.trunc(baseline + (baseline - upper[:, 1]) * 2 // 3)
    return np.concatenate([points, upper])


def rescaled(points: np.ndarray) -> np.ndarray:
    """(83, 2) of another face with the same expression: the original's fixed factors (random_scale_points)."""
    points = points.astype(float)
    for label in (2, 4):
        parts = [part for part in PARTS if part.label == label]
        edges = [edge for part in parts for edge in part.edges]
        common = points[[number for part in parts for number in part.outline]].mean(axis=0)[0]
        # Corners of an eye belong to two edges and move twice; that is the original's.
        shifts = [(points[edge].mean(axis=0)[0] - common) * (TOGETHER - 1) for edge in edges]
        for edge, shift in zip(edges, shifts, strict=True):
            points[edge, 0] += shift
    for part in PARTS:
        numbers = part.outline
        centre = points[numbers].mean(axis=0)
        points[numbers] = centre + (points[numbers] - centre) * SCALES.get(part.label, (1.0, 1.0))
    return points


def part_labels(points: np.ndarray, size: Size) -> np.ndarray:
    """(H, W) uint8 of completed landmarks: 0 background, then the labels of `PARTS`."""
    import cv2  # here, as below: other tasks go without OpenCV, SciPy and numba

    labels = np.zeros(size[::-1], np.uint8)
    for part in PARTS:
        outline = points[part.outline].astype(np.int32)
        cv2.fillPoly(labels, [outline], part.label)
    return labels


def draw_edges(points: np.ndarray, size: Size, distances: bool, box: Box | None = None) -> np.ndarray:
    """(1, h, w) uint8 edge map of completed landmarks, with `distances` (15, h, w): a map of each edge too.

    They are of the part `box` of a frame of `size`, None = all of it. A distance is a third of the pixels to the
    nearest pixel of the edge, along the axes, at most 255.
    """
    from vid2vid_dist.data.distances import fill_distances

    left, top, right, bottom = box or (0, 0, *size)
    edges = [edge for part in PARTS for edge in part.edges]
    edge_map = np.zeros(size[::-1], np.uint8)
    drawn = np.empty((1 + distances * len(edges), bottom - top, right - left), np.uint8)
    for number, edge in enumerate(edges, 1):
        curves = [curve_through(points[numbers]) for numbers in pieces(edge)]
        drawn_edge = stroke([curve for curve in curves if curve is not None], size)
        if drawn_edge is None:
            if distances:
                drawn[number] = 255
            continue
        edge_map[drawn_edge.rows_columns] |= drawn_edge.pixels
        if distances:
            fill_distances(drawn[number], replace(drawn_edge, x=drawn_edge.x - left, y=drawn_edge.y - top))
    drawn[0] = edge_map[top:bottom, left:right]
    return drawn


def _draw(files: FrameFiles, data: DataConfig, geometry: Geometry, rng: np.random.Generator | None) -> np.ndarray:
    """The edge map, and the distance to each edge; `data.random_scale_points` changes the face at generation."""
    points, box = completed(files.content("keypoints")), geometry.shown(files.size)
    shown = rescaled(points) if data.random_scale_points and rng is None else points
    drawn = draw_edges(shown, files.size, not data.no_dist_map, box)
    if not data.no_canny_edge:
        from vid2vid_dist.data.canny import canny_edges

        left, top, right, bottom = box
        background = part_labels(points, files.size)[top:bottom, left:right] == 0
        # Added with the wrap-around of 8 bits, as in the original: an edge on a drawn one stays bright.
        drawn[0] += (canny_edges(files.picture("images"), box) & background).astype(np.uint8) * 255
    return geometry.apply_maps(drawn, box)


def _draw_parts(files: FrameFiles, geometry: Geometry) -> np.ndarray:
    """Part labels of a face, 0 elsewhere; `data.random_scale_points` leaves them as they are."""
    labels = part_labels(completed(files.content("keypoints")), files.size)
    return geometry.apply_nearest(Image.fromarray(labels))


def _scale(drawn: Tensor, data: DataConfig, dtype: torch.dtype) -> Tensor:
    """Lies in [0, 1]."""
    return (drawn.to(torch.promote_types(dtype, torch.float32)) / 255).to(dtype)


FACE = DataTask(
    name="face",
    modalities={
        "images": Modality("img", read_rgb),
        "keypoints": Modality("keypoints", parse_landmarks, (".txt",)),
    },
    needed=("keypoints", "images"),
    inputs=lambda data: ("keypoints",),
    channels=lambda data: 1 if data.no_dist_map else 15,
    draw=_draw,
    box=lambda files: crop_box(files.content("keypoints"), files.size),
    scale=_scale,
    view=lambda inputs: inputs[..., :1, :, :] * 2 - 1,
    parts=Parts(N_LABELS, _draw_parts),
    in_python=True,
    resizable=False,
    sheet=lambda data, modalities: replace(data, no_dist_map=True),
)
