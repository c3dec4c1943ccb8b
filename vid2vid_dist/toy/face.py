"""A small rendered talking head with its 68 landmarks, for first runs and tests.

Everything is painted from the landmarks themselves, so that they are exact. Lengths of the head are in widths of a
face, y down, z towards the camera, the origin between the eyes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vid2vid_dist.data.images import encode_png
from vid2vid_dist.toy.set import Toy, ToyOptions, render_set, write_file

VERSION = 1
"""Of the pictures: counted up when the same options render something else."""
PERSONS = (0, 3, 4, 11)
"""Of whom no two look alike."""
FACE_WIDTH = 0.37
"""Of the head, in heights of the frame: 2.5 of them just fit."""
SUBPIXEL = 4
"""Bits behind the point of coordinates that polygons are filled at."""

SKINS = [(238, 205, 180), (214, 170, 136), (172, 121, 88), (122, 80, 56)]
HAIRS = [(54, 40, 34), (120, 76, 40), (196, 158, 92), (92, 90, 94)]
SHIRTS = [(60, 90, 150), (150, 60, 64), (70, 120, 84), (200, 196, 186)]
WALLS = [(198, 206, 204), (176, 186, 206), (212, 198, 176), (168, 190, 172)]
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Expression:
    """How far the mouth (0 to 1) and the eyes (0 to 1) are open, how much the brows are raised, in face widths."""

    mouth: float
    eyes: float
    brows: float


@dataclass(frozen=True)
class FaceFrame:
    """image (H, W, 3) uint8 and landmarks (68, 2) int, x, y in pixels."""

    image: np.ndarray
    landmarks: np.ndarray


class ToyFace:
    """One video: a person who talks, nods and blinks before a wall. A function of its arguments.

    All videos of the plain set show one `person`, as a few minutes of training cannot tell whose edges it sees.
    """

    def __init__(self, seed: int, person: int, n_frames: int, width: int, height: int) -> None:
        look, rng = np.random.default_rng(person), np.random.default_rng(seed)
        self.n_frames, self.width, self.height = n_frames, width, height
        self.skin, self.hair, self.shirt, self.wall = (
            np.array(colors[look.integers(len(colors))]) for colors in (SKINS, HAIRS, SHIRTS, WALLS))
        self.slim, self.shelf = look.uniform(0.94, 1.06), look.uniform(0, 0.12)
        self.phases, self.periods = rng.uniform(0, 2 * math.pi, 8), rng.uniform(0.8, 1.25, 8)

    def frames(self) -> Iterator[FaceFrame]:
        for frame in range(self.n_frames):
            yield self._frame(frame)

    def _wave(self, which: int, period: float, frame: int) -> float:
        """A swing between -1 and 1 with a period in frames, a little different for everybody."""
        return math.sin(2 * math.pi * frame / (period * self.periods[which]) + self.phases[which])

    def expression(self, frame: int) -> Expression:
        talk = 0.5 + 0.32 * self._wave(0, 7, frame) + 0.18 * self._wave(1, 4.3, frame)
        blink = min(1.0, 8 * abs(math.sin(math.pi * frame / (23 * self.periods[2]) + self.phases[2])))
        return Expression(talk, blink, 0.025 * self._wave(3, 31, frame))

    def _project(self, points: np.ndarray, frame: int) -> np.ndarray:
        """(n, 3) of the head -> (n, 2) pixels: it turns, nods, tilts and moves a little."""
        yaw, pitch, roll = (0.32 * self._wave(4, 37, frame), 0.12 * self._wave(5, 29, frame),
                            0.09 * self._wave(6, 43, frame))
        x, y, z = (points * (self.slim, 1.0, 1.0)).T
        x, z = x * math.cos(yaw) + z * math.sin(yaw), z * math.cos(yaw) - x * math.sin(yaw)
        y = y * math.cos(pitch) + z * math.sin(pitch)
        x, y = x * math.cos(roll) - y * math.sin(roll), y * math.cos(roll) + x * math.sin(roll)
        size = FACE_WIDTH * self.height
        centre = self.width / 2 + 0.05 * self.height * self._wave(7, 53, frame), 0.44 * self.height
        return np.stack([x, y], axis=1) * size + centre

    def _frame(self, frame: int) -> FaceFrame:
        expression = self.expression(frame)
        head = head_points(expression)
        landmarks = np.rint(self._project(head, frame)).astype(int)
        image = self._background()
        size = FACE_WIDTH * self.height

        def fill(points: np.ndarray, color: np.ndarray | Color) -> None:
            coordinates = np.rint(points * 2**SUBPIXEL).astype(np.int32)
            cv2.fillPoly(image, [coordinates], tuple(map(int, color)), cv2.LINE_AA, SUBPIXEL)

        def ring(x: float, y: float, z: float, wide: float, high: float) -> np.ndarray:
            turn = np.linspace(0, 2 * math.pi, 40)
            points = np.stack([x + wide * np.cos(turn), y + high * np.sin(turn), np.full(40, z)], axis=1)
            return self._project(points, frame)

        neck = self._project(np.array([[0.0, 0.5, 0.0]]), frame)[0]
        fill(np.array([neck + (-0.24 * size, 0), neck + (0.24 * size, 0), neck + (0.27 * size, 0.6 * size),
                       neck + (-0.27 * size, 0.6 * size)]), self.skin * 0.82)
        bottom, middle = self.height + 2, neck[0]
        fill(np.array([(middle - 1.1 * size, bottom), (middle - 0.8 * size, neck[1] + 0.5 * size),
                       (middle - 0.25 * size, neck[1] + 0.3 * size), (middle, neck[1] + 0.5 * size),
                       (middle + 0.25 * size, neck[1] + 0.3 * size), (middle + 0.8 * size, neck[1] + 0.5 * size),
                       (middle + 1.1 * size, bottom)]), self.shirt)
        fill(ring(0, -0.1, -0.1, 0.62, 0.66), self.hair)
        outline = self._project(np.concatenate([head[:17], forehead()]), frame)
        fill(outline, self.skin)
        points = landmarks.astype(float)
        centre = outline.mean(axis=0)
        fill(centre + (outline - centre) * (0.55, 0.8) + (0.05 * size, 0.06 * size), np.minimum(self.skin * 1.06, 255))
        for eye in (points[36:42], points[42:48]):
            fill(eye, (244, 244, 240))
            if expression.eyes > 0.4:
                pupil = eye.mean(axis=0)
                turn = np.linspace(0, 2 * math.pi, 24)
                circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
                fill(pupil + circle * 0.035 * size, (60, 84, 96))
                fill(pupil + circle * 0.016 * size, (16, 16, 20))
        for brow in (points[17:22], points[22:27]):
            fill(np.concatenate([brow, brow[::-1] + (0, 0.035 * size)]), self.hair)
        fill(np.concatenate([points[27:28], points[31:36]]), self.skin * 0.93)
        fill(points[31:36], self.skin * 0.62)
        fill(points[48:60], np.array([176, 76, 80]) * 0.5 + self.skin * 0.35)
        fill(points[60:68], (70, 22, 28))
        if expression.mouth > 0.35:
            fill(np.concatenate([points[60:65], points[63:60:-1] + (0, 0.03 * size)]), (236, 234, 226))
        return FaceFrame(image, landmarks)

    def _background(self) -> np.ndarray:
        """A lit wall with a shelf."""
        x = np.linspace(0.86, 1.04, self.width)[None, :, None]
        image = np.broadcast_to(self.wall * x, (self.height, self.width, 3)).copy()
        top = int((0.16 + self.shelf) * self.height)
        image[top : top + self.height // 24] = self.hair * 0.5 + 60
        for i, book in enumerate(np.linspace(0.02, 0.95, 14)):
            left, high = int(book * self.width), int((0.08 + 0.02 * (i % 3)) * self.height)
            image[top - high : top, left : left + self.width // 24] = np.roll(self.shirt, i) * (0.6 + 0.05 * (i % 5))
        return np.clip(image, 0, 255).astype(np.uint8)


def head_points(expression: Expression) -> np.ndarray:
    """(68, 3) landmarks of the head that looks ahead, in dlib's order."""
    turn = np.linspace(math.pi, 0, 17)
    jaw = np.stack([0.5 * np.cos(turn), 0.62 * np.sin(turn) + 0.1 * expression.mouth * np.sin(turn) ** 3,
                    -0.1 + 0.35 * np.sin(turn)], axis=1)
    arc = np.sin(np.linspace(0.5, 2.6, 5))
    brow = np.stack([np.linspace(-0.4, -0.11, 5), -0.13 - 0.06 * arc - expression.brows, np.full(5, 0.42)], axis=1)
    bridge = np.stack([np.zeros(4), np.linspace(-0.03, 0.18, 4), np.linspace(0.46, 0.62, 4)], axis=1)
    wings = np.stack([np.linspace(-0.1, 0.1, 5), 0.24 + 0.02 * np.sin(np.linspace(0, math.pi, 5)),
                      0.48 + 0.08 * np.sin(np.linspace(0, math.pi, 5))], axis=1)
    eye = np.array([(-0.3, 0), (-0.24, -1), (-0.17, -1), (-0.11, 0), (-0.17, 1), (-0.24, 1)], float)
    eye = np.stack([eye[:, 0], 0.045 * expression.eyes * eye[:, 1], np.full(6, 0.4)], axis=1)
    mouth = _mouth(0.19, 0.035, 0.04 + 0.13 * expression.mouth, [5, 5])
    inner = _mouth(0.15, 0.012, 0.014 + 0.11 * expression.mouth, [3, 3])
    mirror = np.array([-1.0, 1.0, 1.0])
    other_eye = (eye * mirror)[[3, 2, 1, 0, 5, 4]]
    return np.concatenate([jaw, brow, (brow * mirror)[::-1], bridge, wings, eye, other_eye, mouth, inner])


def _mouth(half: float, up: float, down: float, between: list[int]) -> np.ndarray:
    """Corner, upper lip from left to right, corner, lower lip back."""
    upper = np.linspace(math.pi, 0, between[0] + 2)
    lower = np.linspace(0, -math.pi, between[1] + 2)[1:-1]
    turn = np.concatenate([upper, lower])
    y = np.where(np.sin(turn) > 0, -up * np.sin(turn), -down * np.sin(turn)) + 0.38
    return np.stack([half * np.cos(turn), y, 0.42 - 0.3 * np.cos(turn) ** 2 * half], axis=1)


def forehead() -> np.ndarray:
    """(15, 3) hairline from the right to the left."""
    turn = np.linspace(0.15, math.pi - 0.15, 15)
    return np.stack([0.49 * np.cos(turn), -0.42 * np.sin(turn), 0.1 + 0.2 * np.sin(turn)], axis=1)


def render_toy_face(out: Path, options: ToyOptions) -> str:
    """Write the raw folders {train,test}_{keypoints,img} below `out` (`set.render_set`)."""
    return _render(out, "face", options, (options.seed,))


def render_toy_faces(out: Path, options: ToyOptions) -> str:
    """The same with `PERSONS`, who take turns: whose edges they are cannot be seen."""
    return _render(out, "faces", options, PERSONS)


def _render(out: Path, what: str, options: ToyOptions, persons: Sequence[int]) -> str:
    def write_video(root: Path, split: str, name: str, seed: int) -> None:
        person = persons[(seed - options.seed) % len(persons)]
        video = ToyFace(seed, person, options.n_frames, options.width, options.height)
        for i, frame in enumerate(video.frames()):
            lines = "".join(f"{x},{y}\n" for x, y in frame.landmarks)
            write_file(root, f"{split}_keypoints", f"{name}/frame{i:06d}.txt", lines.encode())
            write_file(root, f"{split}_img", f"{name}/frame{i:06d}.png", encode_png(frame.image.transpose(2, 0, 1)))

    return render_set(out, what, VERSION, options, write_video)


TOY_FACE = Toy("face", "face", ToyOptions(n_train=6, n_test=1, n_frames=40, width=256, height=192), render_toy_face)
TOY_FACES = Toy("faces", "face", ToyOptions(n_train=8, n_test=2, n_frames=24, width=256, height=192), render_toy_faces)
