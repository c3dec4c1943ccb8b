"""Poses of bodies that become dancing people: DensePose's pictures, OpenPose's points, or both (spec: data 7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.face_curves import Color, brush, curve_through
from vid2vid_dist.data.geometry import Box, Draws, Geometry, Size, clip_geometry
from vid2vid_dist.data.images import decode, read_rgb, refuse_lossy, to_array, to_float
from vid2vid_dist.data.tasks.base import DataTask, Modality
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import parse_json, shown

if TYPE_CHECKING:
    from vid2vid_dist.data.inputs import FrameFiles

N_PARTS = 24
"""Body parts of DensePose, numbered from 1."""
HEAD_PARTS = (23, 24)
PART_CHANNEL = 2
"""Of a DensePose picture: the part's number; the other two are coordinates on it."""

KEYS = {"body": ("pose_keypoints_2d", 25), "left": ("hand_left_keypoints_2d", 21),
        "right": ("hand_right_keypoints_2d", 21), "face": ("face_keypoints_2d", 70)}  # fmt: skip
"""Part of a person -> its key in the file and its number of points."""
BODY_CONFIDENCE, HAND_CONFIDENCE, FACE_CONFIDENCE = 0.01, 0.01, 0.1
BODY_BRUSH, FINE_BRUSH = 3, 1
MAX_COORDINATE = 2**16
"""Pixels; a limb is drawn point by point, so a longer one would fill the memory."""
MAX_PEOPLE = 100  # of a frame: each is drawn alone

HEAD_POINTS = [0, 15, 16, 17, 18]
HEAD_LIMBS: list[tuple[int, int, Color]] = [
    (17, 15, (153, 0, 153)), (15, 0, (153, 0, 102)), (0, 16, (102, 0, 153)), (16, 18, (51, 0, 153)),
]  # fmt: skip
LIMBS: list[tuple[int, int, Color]] = [
    (0, 1, (153, 0, 51)), (1, 8, (153, 0, 0)),
    (1, 2, (153, 51, 0)), (2, 3, (153, 102, 0)), (3, 4, (153, 153, 0)),
    (1, 5, (102, 153, 0)), (5, 6, (51, 153, 0)), (6, 7, (0, 153, 0)),
    (8, 9, (0, 153, 51)), (9, 10, (0, 153, 102)), (10, 11, (0, 153, 153)),
    (11, 24, (0, 153, 153)), (11, 22, (0, 153, 153)), (22, 23, (0, 153, 153)),
    (8, 12, (0, 102, 153)), (12, 13, (0, 51, 153)), (13, 14, (0, 0, 153)),
    (14, 21, (0, 0, 153)), (14, 19, (0, 0, 153)), (19, 20, (0, 0, 153)),
]  # fmt: skip
FINGERS: list[tuple[list[int], Color]] = [
    ([0, 1, 2, 3, 4], (204, 0, 0)), ([0, 5, 6, 7, 8], (163, 204, 0)), ([0, 9, 10, 11, 12], (0, 204, 82)),
    ([0, 13, 14, 15, 16], (0, 82, 204)), ([0, 17, 18, 19, 20], (163, 0, 204)),
]  # fmt: skip
FACE_EDGES = [
    [17, 18, 19, 20, 21], [22, 23, 24, 25, 26], [27, 28, 29, 30], [31, 32, 33, 34, 35],
    [36, 37, 38, 39], [39, 40, 41, 36], [42, 43, 44, 45], [45, 46, 47, 42],
    [48, 49, 50, 51, 52, 53, 54], [54, 55, 56, 57, 58, 59, 48],
]  # fmt: skip
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Person:
    """Points (n, 3) of x, y in pixels and confidence; None where nothing was looked for."""

    body: np.ndarray
    left: np.ndarray | None
    right: np.ndarray | None
    face: np.ndarray | None


@dataclass(frozen=True)
class PersonDraws:
    """The random numbers of one person in one frame of training.

    limbs (24,), hands (2,) and face are uniform in [0, 1): what is not above the drop probability is left out.
    head_noise (5, 2) and face_shift (2,) in pixels move the points of the head; zero leaves it recognisable.
    """

    limbs: np.ndarray
    hands: np.ndarray
    face: float
    head_noise: np.ndarray
    face_shift: np.ndarray

    @staticmethod
    def draw(rng: np.random.Generator, blur_head: bool) -> PersonDraws:
        """All numbers, whatever is drawn in the end: an option leaves the other numbers as they are."""
        head_noise, face_shift = rng.normal(0, 5, (5, 2)), rng.normal(0, 2, 2)
        n_limbs = len(HEAD_LIMBS) + len(LIMBS)
        return PersonDraws(rng.random(n_limbs), rng.random(2), rng.random(), head_noise * blur_head,
                           face_shift * blur_head)


NOTHING_DROPPED = PersonDraws(np.ones(24), np.ones(2), 1.0, np.zeros((5, 2)), np.zeros(2))


def parse_people(data: bytes, where: str, size: Size | None = None) -> list[Person]:
    """The people of a file of OpenPose (BODY_25; --face and --hand may be missing); none is a valid answer.

    Raises UserError when the file is cut short, of another model, or holds what is no number, or too many people, and
    for points that are no pixels of a frame of `size`.
    """
    try:
        people = parse_json(data.decode("utf-8-sig"))["people"]
        if len(people) > MAX_PEOPLE:
            raise UserError(f"{where}: {len(people)} people, more than {MAX_PEOPLE}: keep those that are to be drawn")
        return [_person(entry, where, size) for entry in people]
    except (AttributeError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"{where}: not a whole JSON file of OpenPose ({type(error).__name__}: {shown(error)}): write it with "
            "--write_json and the model BODY_25"
        ) from None


def _person(entry: dict[str, Any], where: str, size: Size | None) -> Person:
    parts: dict[str, Any] = {}
    for part, (key, n) in KEYS.items():
        values = np.array(entry[key] if part == "body" else entry.get(key, []), float)
        if not values.size and part != "body":
            parts[part] = None
            continue
        if values.shape != (3 * n,):
            raise UserError(f"{where}: {key} has {values.size} numbers, expected {3 * n} (x, y, confidence of {n} "
                            "points): run OpenPose with its model BODY_25")
        if not (np.abs(values) < MAX_COORDINATE).all():
            raise UserError(f"{where}: {key} holds a number of {MAX_COORDINATE} or more: run OpenPose again")
        parts[part] = values.reshape(n, 3)
        _require_pixels(parts[part], f"{where}: {key}", size)
    return Person(**parts)


def _require_pixels(points: np.ndarray, what: str, size: Size | None) -> None:
    """Raise UserError for found points (n, 3) that all lie within a pixel, or one of which is far outside the frame."""
    found = points[points[:, 2] > BODY_CONFIDENCE, :2]
    if len(found) > 2 and np.abs(found).max() <= 1:
        raise UserError(f"{what}: all points lie in -1..1: they are no pixels; run OpenPose with --keypoint_scale 0")
    if size is not None and ((found < np.negative(size)) | (found > 2 * np.array(size))).any():
        raise UserError(f"{what}: a point lies further from the frame of {size[0]}x{size[1]} than that is large: "
                        "points are pixels of these very frames; run OpenPose on them")


def draw_people(people: list[Person], size: tuple[int, int], draws: list[PersonDraws], drop: float,
                basic: bool) -> np.ndarray:
    """(H, W, 3) uint8 of all people, each drawn on black, added with the wrap-around of 8 bits.

    `draws` has an entry per person, `drop` is the probability of leaving something out; `basic` draws neither
    heads' limbs nor hands nor faces.
    """
    total = np.zeros((size[1], size[0], 3), np.uint8)
    for person, numbers in zip(people, draws, strict=True):
        total += _draw_person(person, size, numbers, drop, basic)
    return total


def _draw_person(person: Person, size: tuple[int, int], draws: PersonDraws, drop: float, basic: bool) -> np.ndarray:
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    body = np.where(person.body[:, 2:] > BODY_CONFIDENCE, person.body[:, :2], 0.0)
    body[HEAD_POINTS] += draws.head_noise
    limbs = LIMBS if basic else HEAD_LIMBS + LIMBS
    for (a, b, color), kept in zip(limbs, draws.limbs[-len(limbs):] > drop, strict=True):
        if kept:
            _bone(canvas, body[[a, b]], BODY_BRUSH, color)
    if basic:
        return canvas
    for hand, u in zip((person.left, person.right), draws.hands, strict=True):
        if hand is not None and u > drop:
            points = _valid(hand, [finger for finger, _ in FINGERS], HAND_CONFIDENCE)
            for finger, color in FINGERS:
                for bone in pairwise(finger):
                    _bone(canvas, points[list(bone)], FINE_BRUSH, color)
    if person.face is not None and draws.face > drop:
        points = _valid(person.face, FACE_EDGES, FACE_CONFIDENCE) + draws.face_shift
        for edge in FACE_EDGES:
            for bone in pairwise(edge):
                _bone(canvas, points[list(bone)], FINE_BRUSH, WHITE)
    return canvas


def _valid(points: np.ndarray, groups: list[list[int]], confidence: float) -> np.ndarray:
    """(n, 2): the points of those groups all of whose points are sure enough, (0, 0) for the others."""
    found = np.zeros((len(points), 2))
    for group in groups:
        if (points[group, 2] > confidence).all():
            found[group] = points[group, :2]
    return found


def _bone(canvas: np.ndarray, ends: np.ndarray, size: int, color: Color) -> None:
    """Draw between two points; a point with x = 0 is not there."""
    if ends[:, 0].all():
        curve = curve_through(ends)
        assert curve is not None, "a line is never too steep"
        brush(canvas, curve, size, color)


def _read_densepose(data: bytes, where: str, size: Size | None) -> Image.Image:
    image = decode(data, where, size, ("RGB",), "RGB (u, v and the number of a body part)")
    refuse_lossy(image, where, "body parts")
    if (part := int(to_array(image)[PART_CHANNEL].max())) > N_PARTS:
        raise UserError(f"{where}: body part {part} in the third channel, DensePose has {N_PARTS}: "
                        "store u, v, part in this order, unscaled")
    return image


def _inputs(data: DataConfig) -> tuple[str, ...]:
    if data.densepose_only and data.openpose_only:
        raise UserError("data.densepose_only and data.openpose_only leave nothing: set one of them at most")
    return ("openpose",) if data.openpose_only else ("densepose",) if data.densepose_only else ("densepose", "openpose")


def _geometry(size: Size, data: DataConfig, draws: Draws, may_flip: bool, source: Box | None) -> Geometry:
    """Without the outer quarters of the width; what is left is a multiple of 64 wide. Never mirrored.

    Raises UserError where nothing is left.
    """
    return central_half(clip_geometry(size, data, draws, may_flip=False, source=source))


def central_half(geometry: Geometry) -> Geometry:
    left, top, right, bottom = geometry.box
    width = right - left
    half = width // 4 // 32 * 32
    if not half:
        raise UserError(f"frames become {width} pixels wide, of which bodies need at least 128 (the middle half is "
                        "used): raise data.loadSize or data.fineSize")
    start = left + width // 2 - half
    return replace(geometry, crop_pos=(start, top), crop_size=(2 * half, bottom - top))


def _draw(files: FrameFiles, data: DataConfig, geometry: Geometry, rng: np.random.Generator | None) -> np.ndarray:
    drop = 0.0 if rng is None else data.random_drop_prob
    # All numbers are drawn, whatever is used: an option leaves the other numbers as they are.
    kept = np.ones(N_PARTS, bool) if rng is None else rng.random(N_PARTS) > drop
    drawn = []
    if not data.openpose_only:
        hidden = {part for part in range(1, N_PARTS + 1) if not kept[part - 1]}
        if data.remove_face_labels and rng is not None:
            hidden.update(HEAD_PARTS)
        dense = geometry.apply_nearest(files.picture("densepose"))
        dense[:, np.isin(dense[PART_CHANNEL], list(hidden))] = 0
        drawn.append(dense)
    if not data.densepose_only:
        blur_head, people = data.remove_face_labels and drop > 0, files.content("openpose")
        draws = [NOTHING_DROPPED if rng is None else PersonDraws.draw(rng, blur_head) for _ in people]
        lines = draw_people(people, files.size, draws, drop, data.basic_point_only)
        drawn.append(geometry.apply_nearest(Image.fromarray(lines)))
    return np.concatenate(drawn)


def _scale(drawn: Tensor, data: DataConfig, dtype: torch.dtype) -> Tensor:
    """Lies in [-1, 1], over which DensePose's part numbers are spread."""
    values = to_float(drawn, dtype)
    if not data.openpose_only:
        parts = drawn[..., PART_CHANNEL, :, :].to(torch.promote_types(dtype, torch.float32))
        values[..., PART_CHANNEL, :, :] = ((parts / N_PARTS - 0.5) / 0.5).to(dtype)
    return values


def _view(inputs: Tensor) -> Tensor:
    """DensePose with OpenPose's lines on it, or the one that there is."""
    dense, lines = inputs[..., :3, :, :], inputs[..., -3:, :, :]
    return torch.where((lines > -1).any(dim=-3, keepdim=True), lines, dense)


POSE = DataTask(
    name="pose",
    modalities={
        "images": Modality("img", read_rgb),
        "densepose": Modality("densepose", _read_densepose),
        "openpose": Modality("openpose", parse_people, (".json",)),
    },
    needed=("images",),
    inputs=_inputs,
    channels=lambda data: 3 * len(_inputs(data)),
    draw=_draw,
    geometry=_geometry,
    scale=_scale,
    view=_view,
    head_marker=lambda data: _inputs(data)[0],
    in_python=True,
    by_length=True,
    resizable=False,
    sheet=lambda data, modalities: replace(data, openpose_only="densepose" not in modalities,
                                           densepose_only="openpose" not in modalities),
)
