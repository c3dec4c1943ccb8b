"""A small rendered street with exact labels, instances and optical flow, for first runs and tests."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vid2vid_dist.data.folders import MODALITIES, SPLITS
from vid2vid_dist.data.images import encode_flow, encode_png
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.toy_paint import ROAD, paint
from vid2vid_dist.data.toy_scene import GROUND, SKY, Camera, Hits, Solid, cast
from vid2vid_dist.errors import UserError

TOY_RAW = Path("data/toy_street")
TOY_SHARDS = Path("data/shards/toy_street")

LABEL_ROAD, LABEL_SIDEWALK, LABEL_BUILDING, LABEL_POLE, LABEL_TREE, LABEL_SKY, LABEL_CAR = 7, 8, 11, 17, 21, 23, 26
"""Cityscapes label ids. Instance ids are label * 1000 + number for cars, the label itself for the rest."""


@dataclass(frozen=True)
class ToyOptions:
    """Sizes of the default set; videos and frames are counts, width and height pixels."""

    n_train: int = 8
    n_test: int = 2
    n_frames: int = 30
    width: int = 256
    height: int = 128
    seed: int = 0


@dataclass(frozen=True)
class ToyFrame:
    """One rendered frame.

    labels (H, W) uint8, instances (H, W) int32, image (H, W, 3) uint8; flow (2, H, W) float32 leads
    from a pixel to the place of its surface point one frame earlier (pixels, x right, y down); valid
    (H, W) bool is False where that place is hidden, next to another surface, or off the picture.
    """

    labels: np.ndarray
    instances: np.ndarray
    image: np.ndarray
    flow: np.ndarray
    valid: np.ndarray


class ToyStreet:
    """One video: solids along a street and a camera that drives through it. A function of its seed."""

    def __init__(self, seed: int, width: int = 256, height: int = 128) -> None:
        rng = np.random.default_rng([seed, 77])
        self.width, self.height = width, height
        self.speed = rng.uniform(0.28, 0.42)
        self.sway, self.sway_period, self.phase = rng.uniform(0.012, 0.035), rng.uniform(45, 90), rng.uniform(0, 2 * math.pi)
        self.solids = _build_street(rng, self.speed)

    def camera(self, frame: int) -> Camera:
        """Forward along the right lane at eye height, swaying a little."""
        swing = math.sin(2 * math.pi * frame / self.sway_period + self.phase)
        drift = math.cos(2 * math.pi * frame / self.sway_period + self.phase)
        position = np.array([1.6 - 0.3 * drift, 1.5 + 0.01 * math.sin(0.9 * frame), self.speed * frame])
        return Camera(position, self.sway * swing, 0.012, self.width, self.height, focal=0.8 * self.width)

    def frames(self, n_frames: int) -> Iterator[ToyFrame]:
        """The first `n_frames` frames; the flow of the first one is zero and invalid."""
        v, u = (grid.ravel() for grid in np.mgrid[0:self.height, 0:self.width].astype(float))
        previous: Hits | None = None
        for frame in range(n_frames):
            camera = self.camera(frame)
            hits = cast(self.solids, camera, frame, u, v)
            yield self._frame(frame, u, v, hits, previous)
            previous = hits

    def _frame(self, frame: int, u: np.ndarray, v: np.ndarray, hits: Hits, previous: Hits | None) -> ToyFrame:
        shape = self.height, self.width
        points = self._points(frame, u, v, hits)
        labels = np.array([s.label for s in self.solids] + [LABEL_SKY, LABEL_SIDEWALK])[hits.solid]
        labels[(hits.solid == GROUND) & (np.abs(points[0]) < ROAD)] = LABEL_ROAD
        instances = np.array([s.instance for s in self.solids] + [0, 0])[hits.solid]
        instances = np.where(instances > 0, instances, labels)
        flow, valid = np.zeros((2, u.size)), np.zeros(u.size, bool)
        if previous is not None:
            flow, valid = self._flow(frame, u, v, hits, previous, points)
        image = self._image(frame, u, v, hits)
        return ToyFrame(labels.reshape(shape).astype(np.uint8), instances.reshape(shape).astype(np.int32),
                        image.reshape(*shape, 3), flow.reshape(2, *shape).astype(np.float32), valid.reshape(shape))

    def _points(self, frame: int, u: np.ndarray, v: np.ndarray, hits: Hits) -> np.ndarray:
        """(3, N) surface points in world axes; for the sky the direction of the ray."""
        camera = self.camera(frame)
        rays = camera.rays(u, v)
        sky = hits.solid == SKY
        return np.where(sky, rays, camera.position[:, None] + np.where(sky, 0.0, hits.depth) * rays)

    def _flow(self, frame: int, u: np.ndarray, v: np.ndarray, hits: Hits, previous: Hits,
              points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Backward flow (2, N) and where it is valid, by moving each surface point one frame back."""
        camera = self.camera(frame - 1)
        speed = np.array([s.speed for s in self.solids] + [0.0, 0.0])[hits.solid]
        offset = np.where(hits.solid == SKY, points, points - camera.position[:, None])
        offset[2] -= speed
        u_old, v_old, depth = camera.project(offset)
        left, top = np.floor(u_old), np.floor(v_old)
        valid = (depth > 0) & (left >= 0) & (top >= 0) & (left + 1 < self.width) & (top + 1 < self.height)
        corner = np.where(valid, top * self.width + left, 0).astype(int)
        for step in (0, 1, self.width, self.width + 1):
            valid &= previous.surface[np.minimum(corner + step, u.size - 1)] == hits.surface
        return np.stack([u_old - u, v_old - v]), valid

    def _image(self, frame: int, u: np.ndarray, v: np.ndarray, hits: Hits) -> np.ndarray:
        """(N, 3) uint8; pixels at the border of two surfaces are averaged over four rays."""
        camera = self.camera(frame)
        color = paint(self.solids, camera, frame, u, v, hits)
        surface = hits.surface.reshape(self.height, self.width)
        border = np.zeros(surface.shape, bool)
        border[:, 1:] |= surface[:, 1:] != surface[:, :-1]
        border[1:] |= surface[1:] != surface[:-1]
        border[:, :-1] |= border[:, 1:]
        border[:-1] |= border[1:]
        here = np.flatnonzero(border)
        fine_u = (u[here] + np.array([[-0.25], [0.25], [-0.25], [0.25]])).ravel()
        fine_v = (v[here] + np.array([[-0.25], [-0.25], [0.25], [0.25]])).ravel()
        fine = paint(self.solids, camera, frame, fine_u, fine_v, cast(self.solids, camera, frame, fine_u, fine_v))
        color[:, here] = fine.reshape(3, 4, -1).mean(1)
        return np.rint(color.T * 255).astype(np.uint8)


def render_toy_street(out: Path, options: ToyOptions | None = None) -> str:
    """Write the raw folders {train,test}_{A,B,inst,flow} below `out`; returns one line to print.

    Rendered aside and renamed, so `out` is complete or absent; nothing to do when it is there already.
    """
    options = options or ToyOptions()
    about = json.dumps(asdict(options))
    if out.exists():
        if (out / "about.json").is_file() and (out / "about.json").read_text() == about:
            return f"{out}: up to date"
        raise UserError(f"{out} exists and holds something else than this toy street: remove it or choose another folder")
    aside = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        for split, first, n_videos in (("train", 0, options.n_train), ("test", options.n_train, options.n_test)):
            for i in range(n_videos):
                street = ToyStreet(options.seed + first + i, options.width, options.height)
                for number, frame in enumerate(street.frames(options.n_frames)):
                    _write_frame(aside, split, f"street{i:04d}/frame{number:06d}.png", frame)
        (aside / "about.json").write_text(about)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return f"{out}: rendered {options.n_train} + {options.n_test} videos of {options.n_frames} frames"


def ensure_toy_shards(out: Path = TOY_SHARDS, raw: Path = TOY_RAW) -> list[str]:
    """Render and pack the toy street unless `out` has it; returns lines to print, [] when it was there.

    Any number of processes may call it at once: one works, the others wait.
    """
    if all((out / split / "index.json").is_file() for split in SPLITS):
        return []
    out.parent.mkdir(parents=True, exist_ok=True)
    with (out.parent / f".{out.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return [render_toy_street(raw), *make_shards(raw, out, PackOptions(label_nc=35))]


def _write_frame(root: Path, split: str, name: str, frame: ToyFrame) -> None:
    contents = {"labels": encode_png(frame.labels[None]), "images": encode_png(frame.image.transpose(2, 0, 1)),
                "instances": encode_png(frame.instances[None]), "flow": encode_flow(frame.flow, frame.valid)}
    for modality, data in contents.items():
        path = root / f"{split}_{MODALITIES[modality]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _build_street(rng: np.random.Generator, camera_speed: float) -> list[Solid]:
    """Buildings, trees, lamp posts and parked cars on both sides, traffic on the road."""
    end = 140.0
    solids: list[Solid] = []
    for side in (-1, 1):
        solids += _buildings(rng, side, end)
        for z in np.arange(rng.uniform(2, 10), end, 1.0)[::int(rng.integers(10, 15))]:
            solids += _tree(rng, np.array([side * rng.uniform(6.0, 6.5), 0.0, z]))
        for z in np.arange(rng.uniform(6, 20), end, 24.0):
            solids += _lamp(side, z)
        for z in np.arange(rng.uniform(-4, 2), end - 20, 6.4):
            if rng.random() < 0.5:
                solids += _car(rng, _count_cars(solids), side * rng.uniform(3.9, 4.05), z + rng.uniform(-0.4, 0.4), 0.0, side)
    for z in np.cumsum(rng.uniform(16, 34, 4)) + rng.uniform(8, 20):
        solids += _car(rng, _count_cars(solids), -1.6, z, -rng.uniform(0.3, 0.4), -1)
    ahead = rng.uniform(9, 14)
    for _ in range(int(rng.integers(1, 3))):
        solids += _car(rng, _count_cars(solids), 1.6, ahead, camera_speed + rng.uniform(-0.04, 0.08), 1)
        ahead += rng.uniform(14, 30)
    return solids


def _buildings(rng: np.random.Generator, side: int, end: float) -> list[Solid]:
    palette = np.array([(0.72, 0.60, 0.48), (0.78, 0.74, 0.66), (0.62, 0.36, 0.30), (0.60, 0.62, 0.64), (0.82, 0.76, 0.56),
                        (0.55, 0.50, 0.46), (0.70, 0.66, 0.70), (0.50, 0.40, 0.34)])
    solids, z = [], -20.0
    while z < end:
        length, height, setback = rng.uniform(9, 17), rng.choice([10.0, 13.0, 16.0]) + rng.uniform(0, 1), rng.uniform(8.6, 9.2)
        tint = palette[rng.integers(len(palette))] * rng.uniform(0.9, 1.1)
        centre = np.array([side * (setback + 6), height / 2, z + length / 2])
        solids.append(Solid("box", "facade", centre, np.array([6, height / 2, length / 2]), LABEL_BUILDING, 0,
                            np.minimum(tint, 1), key=int(rng.integers(1, 10**6))))
        z += length + (rng.uniform(3, 7) if rng.random() < 0.2 else 0.0)
    if side > 0:  # the street ends at a cross street, so the vanishing point is no hole
        solids.append(Solid("box", "facade", np.array([0.0, 6.0, end + 20]), np.array([40.0, 6.0, 5.0]), LABEL_BUILDING, 0,
                            palette[rng.integers(len(palette))], key=int(rng.integers(1, 10**6))))
    return solids


def _tree(rng: np.random.Generator, foot: np.ndarray) -> list[Solid]:
    green = np.array([0.26, 0.42, 0.16]) * rng.uniform(0.8, 1.2)
    height, spread = rng.uniform(3.6, 4.6), rng.uniform(1.1, 1.6)
    solids = [Solid("post", "bark", foot + [0, height / 2, 0], np.array([0.15, height / 2, 0.15]), LABEL_TREE, 0,
                    np.array([0.34, 0.27, 0.21]))]
    for _ in range(4):
        shift = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.5, 0.9), rng.uniform(-0.7, 0.7)])
        half = spread * np.array([rng.uniform(0.7, 1.0), rng.uniform(0.65, 0.9), rng.uniform(0.7, 1.0)])
        solids.append(Solid("ball", "leaves", foot + [0, height, 0] + shift, half, LABEL_TREE, 0, green,
                            key=int(rng.integers(1, 10**6))))
    return solids


def _lamp(side: int, z: float) -> list[Solid]:
    grey = np.array([0.40, 0.42, 0.43])
    return [Solid("post", "metal", np.array([side * 5.6, 3.2, z]), np.array([0.08, 3.2, 0.08]), LABEL_POLE, 0, grey),
            Solid("box", "metal", np.array([side * 4.9, 6.35, z]), np.array([0.75, 0.06, 0.10]), LABEL_POLE, 0, grey)]


def _car(rng: np.random.Generator, number: int, x: float, z: float, speed: float, side: int) -> list[Solid]:
    """A body and a cabin on it; cars on the right (side 1) drive away from the camera."""
    paints = np.array([(0.75, 0.76, 0.78), (0.10, 0.10, 0.12), (0.60, 0.10, 0.10), (0.14, 0.22, 0.45), (0.85, 0.85, 0.83),
                       (0.35, 0.37, 0.40), (0.20, 0.32, 0.26)])
    tint, length, key = paints[rng.integers(len(paints))], rng.uniform(1.95, 2.3), 2 * int(rng.integers(1000)) + (side > 0)
    instance = LABEL_CAR * 1000 + number
    body = Solid("box", "car", np.array([x, 0.48, z]), np.array([0.88, 0.48, length]), LABEL_CAR, instance, tint, key, speed)
    cabin = Solid("box", "cabin", np.array([x, 1.22, z - 0.25 * side]), np.array([0.76, 0.27, 0.55 * length]), LABEL_CAR,
                  instance, tint, key, speed)
    return [body, cabin]


def _count_cars(solids: list[Solid]) -> int:
    return sum(solid.material == "car" for solid in solids)
