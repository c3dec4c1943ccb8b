"""OpenPose's JSON -> a coloured drawing of every person (spec: data 7.1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from vid2vid_dist.data.face_curves import Color, brush, curve_through
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import parse_json, shown

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


def parse_people(data: bytes, where: str) -> list[Person]:
    """The people of a file of OpenPose (BODY_25; --face and --hand may be missing); none is a valid answer.

    Raises UserError when the file is cut short, of another model, or holds what is no number, or too many people.
    """
    try:
        people = parse_json(data.decode())["people"]
        if len(people) > MAX_PEOPLE:
            raise UserError(f"{where}: {len(people)} people, more than {MAX_PEOPLE}: keep those that are to be drawn")
        return [_person(entry, where) for entry in people]
    except (AttributeError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"{where}: not a whole JSON file of OpenPose ({type(error).__name__}: {shown(error)}): write it again"
        ) from None


def _person(entry: dict[str, Any], where: str) -> Person:
    parts: dict[str, Any] = {}
    for part, (key, n) in KEYS.items():
        values = np.array(entry[key] if part == "body" else entry.get(key, []), float)
        if not values.size and part != "body":
            parts[part] = None
            continue
        if values.shape != (3 * n,):
            raise UserError(
                f"{where}: {key} has {values.size} numbers, expected {3 * n} (x, y, confidence of {n} points): "
                "run OpenPose with its model BODY_25"
            )
        if not (np.abs(values) < MAX_COORDINATE).all():
            raise UserError(f"{where}: {key} holds a number of {MAX_COORDINATE} or more: run OpenPose again")
        parts[part] = values.reshape(n, 3)
    return Person(**parts)


def draw_people(people: list[Person], size: tuple[int, int], draws: list[PersonDraws], drop: float,
                basic: bool) -> np.ndarray:
    """(3, H, W) uint8 of all people, each drawn on black, added with the wrap-around of 8 bits.

    `draws` has an entry per person, `drop` is the probability of leaving something out; `basic` draws neither
    heads' limbs nor hands nor faces.
    """
    total = np.zeros((size[1], size[0], 3), np.uint8)
    for person, numbers in zip(people, draws, strict=True):
        total += _draw_person(person, size, numbers, drop, basic)
    return total.transpose(2, 0, 1)


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
