"""A small rendered dancer with poses as OpenPose and DensePose give them, for first runs and tests.

The skeleton's lengths stay; its joints swing. Lengths are in heights of the body, angles in radians from straight
down, y down. Poses and picture come from the same joints, so they agree exactly.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vid2vid_dist.data.images import encode_png
from vid2vid_dist.toy.face import Expression, head_points
from vid2vid_dist.toy.set import Toy, ToyOptions, render_set, write_file

VERSION = 1
"""Of the pictures: counted up when the same options render something else."""
BODY_HEIGHT = 0.82
"""Of the dancer who stands straight, in heights of the frame."""
CONFIDENCE = 0.9

SKINS = [(236, 200, 174), (206, 160, 126), (140, 98, 70)]
SHIRTS = [(190, 60, 60), (60, 120, 180), (220, 180, 60), (90, 160, 100)]
TROUSERS = [(50, 56, 80), (84, 70, 60), (40, 44, 46)]
FLOORS = [(150, 130, 110), (120, 128, 138), (142, 120, 132)]
SHOE = (36, 34, 34)


@dataclass(frozen=True)
class Limb:
    """A capsule between two joints: DensePose's part, radius, and what colour it has (skin, shirt, trousers, shoe)."""

    a: str
    b: str
    part: int
    radius: float
    cover: str


LIMBS = (
    Limb("l_hip", "l_knee", 8, 0.052, "trousers"), Limb("l_knee", "l_ankle", 12, 0.042, "trousers"),
    Limb("l_ankle", "l_toe", 6, 0.024, "shoe"),
    Limb("r_hip", "r_knee", 7, 0.052, "trousers"), Limb("r_knee", "r_ankle", 11, 0.042, "trousers"),
    Limb("r_ankle", "r_toe", 5, 0.024, "shoe"),
    Limb("waist", "chest", 2, 0.085, "shirt"),
    Limb("chest", "top", 24, 0.03, "skin"),
    Limb("l_shoulder", "l_elbow", 15, 0.034, "shirt"), Limb("l_elbow", "l_wrist", 19, 0.026, "skin"),
    Limb("l_wrist", "l_palm", 4, 0.024, "skin"),
    Limb("r_shoulder", "r_elbow", 16, 0.034, "shirt"), Limb("r_elbow", "r_wrist", 20, 0.026, "skin"),
    Limb("r_wrist", "r_palm", 3, 0.024, "skin"),
    Limb("head", "head", 23, 0.068, "skin"),
)  # fmt: skip
"""From back to front."""
HEAD_SIZE = 0.11
"""Width of the face."""

BODY_25 = (
    "nose neck r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist mid_hip r_hip r_knee r_ankle l_hip l_knee "
    "l_ankle r_eye l_eye r_ear l_ear l_toe l_small_toe l_heel r_toe r_small_toe r_heel"
).split()
Joints = dict[str, np.ndarray]


@dataclass(frozen=True)
class PoseFrame:
    """image and densepose (H, W, 3) uint8, openpose as the JSON file of OpenPose holds it."""

    image: np.ndarray
    densepose: np.ndarray
    openpose: dict[str, Any]


class ToyPose:
    """One video: a dancer on a stage. A function of its arguments; all videos of a set show one `person`."""

    def __init__(self, seed: int, person: int, n_frames: int, width: int, height: int) -> None:
        look, rng = np.random.default_rng(person), np.random.default_rng(seed)
        self.n_frames, self.width, self.height = n_frames, width, height
        self.phases, self.periods = rng.uniform(0, 2 * math.pi, 12), rng.uniform(14, 26, 12)
        skin, shirt, trousers, floor = (
            np.array(colors[look.integers(len(colors))]) for colors in (SKINS, SHIRTS, TROUSERS, FLOORS))
        self.colors = {"skin": skin, "shirt": shirt, "trousers": trousers, "shoe": np.array(SHOE)}
        self.floor = floor

    def frames(self) -> Iterator[PoseFrame]:
        for frame in range(self.n_frames):
            joints = self.joints(frame)
            face, hands = self._face(joints, frame), {side: self._hand(joints, side) for side in ("l", "r")}
            picture, dense = self._paint(joints, face)
            yield PoseFrame(picture, dense, {"version": 1.3, "people": [self._person(joints, face, hands)]})

    def _wave(self, which: int, frame: int) -> float:
        return math.sin(2 * math.pi * frame / self.periods[which] + self.phases[which])

    def joints(self, frame: int) -> Joints:
        """Every joint in pixels."""
        sway, lean = 0.05 * self._wave(0, frame), 0.12 * self._wave(1, frame)
        dip = 0.03 * (1 + self._wave(2, frame))
        hip = np.array([sway, 0.0])
        found: Joints = {"mid_hip": hip}
        chest = hip - _ray(lean, 0.27)
        found |= {"neck": chest - _ray(lean, 0.035), "chest": chest + (0, 0.03), "waist": hip + (0, -0.03)}
        found["head"] = chest - _ray(1.4 * lean, 0.13)
        found["top"] = found["head"]
        across = np.array([math.cos(lean), math.sin(lean)])
        for side, sign, number in (("r", -1, 3), ("l", 1, 7)):  # a dancer's right is on the left of the picture
            raise_, bend = 1.2 + 0.9 * self._wave(number, frame), 0.7 + 0.7 * self._wave(number + 1, frame)
            shoulder = chest + sign * 0.1 * across
            elbow = shoulder + _ray(sign * raise_, 0.155)
            wrist = elbow + _ray(sign * (raise_ + bend), 0.145)
            palm = wrist + _ray(sign * (raise_ + bend), 0.045)
            spread = 0.14 + 0.1 * self._wave(number + 2, frame)
            hip_joint = hip + (sign * 0.055, 0.02)
            knee = hip_joint + _ray(sign * spread, 0.24 - dip / 2)
            ankle = knee + _ray(sign * (0.1 - spread / 2), 0.23 - dip / 2)
            found |= {f"{side}_{name}": point for name, point in (
                ("shoulder", shoulder), ("elbow", elbow), ("wrist", wrist), ("palm", palm), ("hip", hip_joint),
                ("knee", knee), ("ankle", ankle), ("toe", ankle + (sign * 0.055, 0.03)),
                ("small_toe", ankle + (sign * 0.065, 0.02)), ("heel", ankle + (-sign * 0.015, 0.025)))}
        size = BODY_HEIGHT * self.height
        place = np.array([self.width / 2, 0.54 * self.height])
        return {name: point * size + place for name, point in found.items()}

    def _face(self, joints: Joints, frame: int) -> np.ndarray:
        """(70, 2) points of the face in pixels: the 68 landmarks and the pupils."""
        turn = 0.03 * self._wave(11, frame)
        points = head_points(Expression(0.3, 1.0, 0.0))[:, :2] + (turn, 0.0)
        pupils = np.array([points[36:42].mean(axis=0), points[42:48].mean(axis=0)])
        return np.concatenate([points, pupils]) * HEAD_SIZE * BODY_HEIGHT * self.height + joints["head"]

    def _hand(self, joints: Joints, side: str) -> np.ndarray:
        """(21, 2) points in pixels: the wrist and five fingers of four bones, spread along the palm."""
        wrist, along = joints[f"{side}_wrist"], joints[f"{side}_palm"] - joints[f"{side}_wrist"]
        across = np.array([-along[1], along[0]])
        fingers = [wrist + (0.4 + 0.25 * bone) * along + spread * (0.3 + 0.25 * bone) * across
                   for spread in (-0.6, -0.3, 0.0, 0.3, 0.6) for bone in range(1, 5)]
        return np.stack([wrist, *fingers])

    def _person(self, joints: Joints, face: np.ndarray, hands: dict[str, np.ndarray]) -> dict[str, Any]:
        ears = {"r_ear": face[0], "l_ear": face[16], "r_eye": face[68], "l_eye": face[69], "nose": face[30]}
        body = np.stack([(joints | ears)[name] for name in BODY_25])
        return {"person_id": [-1], "pose_keypoints_2d": _listed(body), "face_keypoints_2d": _listed(face),
                "hand_left_keypoints_2d": _listed(hands["l"]), "hand_right_keypoints_2d": _listed(hands["r"])}

    def _paint(self, joints: Joints, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) picture and DensePose, nearest limb last."""
        y, x = np.mgrid[0 : self.height, 0 : self.width].astype(float)
        horizon = 0.8 * self.height
        light = 1.1 - 0.5 * np.hypot(x / self.width - 0.5, y / self.height - 0.4)
        image = np.where((y > horizon)[..., None], self.floor * 0.75, self.floor + 50) * light[..., None]
        stripes = (x // (self.width / 16)) % 2 == 0
        image[stripes & (y <= horizon)] *= 0.94
        dense = np.zeros((self.height, self.width, 3), np.uint8)
        for limb in LIMBS:
            self._paint_limb(image, dense, limb, joints[limb.a], joints[limb.b])
        return self._features(np.clip(image, 0, 255).astype(np.uint8), face), dense

    def _paint_limb(self, image: np.ndarray, dense: np.ndarray, limb: Limb, a: np.ndarray, b: np.ndarray) -> None:
        """Add one capsule to both pictures (H, W, 3); only the rectangle around it is touched."""
        radius = limb.radius * BODY_HEIGHT * self.height
        left, top = np.maximum(np.minimum(a, b) - radius - 1, 0).astype(int)
        right, bottom = (np.maximum(a, b) + radius + 2).astype(int)
        image, dense = image[top:bottom, left:right], dense[top:bottom, left:right]
        y, x = np.mgrid[top : top + image.shape[0], left : left + image.shape[1]].astype(float)
        along = b - a
        length = float(np.hypot(*along))
        t = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / max(length**2, 1e-9), 0, 1)
        off_x, off_y = x - a[0] - t * along[0], y - a[1] - t * along[1]
        away = np.hypot(off_x, off_y) / radius
        side = np.clip(((off_x * along[1] - off_y * along[0]) / length if length else off_x) / radius, -1, 1)
        edge = np.clip((1 - away) * radius + 0.5, 0, 1)[..., None]
        shade = (0.82 + 0.18 * np.sqrt(np.clip(1 - away**2, 0, 1)) + 0.06 * side)[..., None]
        image[:] = image * (1 - edge) + self.colors[limb.cover] * shade * edge
        along_u = t if length else np.clip(off_y / radius / 2 + 0.5, 0, 1)
        codes = np.stack([along_u * 254 + 1, (side + 1) * 127 + 1, np.full_like(x, limb.part)], axis=-1)
        dense[away <= 1] = codes.astype(np.uint8)[away <= 1]

    def _features(self, image: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Hair, eyes and mouth."""
        size = HEAD_SIZE * BODY_HEIGHT * self.height
        shapes = ((face[48:60], (150, 50, 60)), (face[36:42], (30, 30, 40)), (face[42:48], (30, 30, 40)))
        for points, color in shapes:
            cv2.fillPoly(image, [np.rint(points * 16).astype(np.int32)], color, cv2.LINE_AA, 4)
        top = np.array([face[0], face[17] + (0, -0.05 * size), face[26] + (0, -0.05 * size), face[16],
                        face[16] + (0, -0.35 * size), face[24] + (0, -0.5 * size), face[19] + (0, -0.5 * size),
                        face[0] + (0, -0.35 * size)])
        cv2.fillPoly(image, [np.rint(top * 16).astype(np.int32)], (50, 36, 30), cv2.LINE_AA, 4)
        return image


def _ray(angle: float, length: float) -> np.ndarray:
    """`length` in the direction `angle`: 0 is down, a quarter turn right."""
    return length * np.array([math.sin(angle), math.cos(angle)])


def _listed(points: np.ndarray) -> list[float]:
    """x, y, confidence of every point in a row."""
    return [round(float(v), 3) for x, y in points for v in (x, y, CONFIDENCE)]


def render_toy_pose(out: Path, options: ToyOptions) -> str:
    """Write the raw folders {train,test}_{img,densepose,openpose} below `out` (`set.render_set`)."""

    def write_video(root: Path, split: str, name: str, seed: int) -> None:
        video = ToyPose(seed, options.seed, options.n_frames, options.width, options.height)
        for i, frame in enumerate(video.frames()):
            stem = f"{name}/frame{i:06d}"
            write_file(root, f"{split}_img", f"{stem}.png", encode_png(frame.image.transpose(2, 0, 1)))
            write_file(root, f"{split}_densepose", f"{stem}.png", encode_png(frame.densepose.transpose(2, 0, 1)))
            write_file(root, f"{split}_openpose", f"{stem}_keypoints.json", json.dumps(frame.openpose).encode())

    return render_set(out, "pose", VERSION, options, write_video)


TOY_POSE = Toy("pose", "pose", ToyOptions(n_train=4, n_test=1, n_frames=24, width=256, height=192), render_toy_pose)
