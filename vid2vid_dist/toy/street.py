"""A small rendered street with exact labels, instances and optical flow, for first runs and tests."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vid2vid_dist.data.folders import SPLITS
from vid2vid_dist.data.images import encode_png
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.tasks.street import STREET
from vid2vid_dist.toy.layout import ROAD_ID, SIDEWALK_ID, SKY_ID, build_street
from vid2vid_dist.toy.paint import DAY, PALETTES, ROAD, Palette, paint
from vid2vid_dist.toy.scene import GROUND, SKY, Camera, Hits, cast
from vid2vid_dist.toy.set import Toy, ToyOptions, render_set, write_file

log = logging.getLogger(__name__)

VERSION = 1
"""Of the pictures: counted up when the same options render something else."""


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
    """One video: solids along a street and a camera that drives through it. A function of its arguments."""

    def __init__(self, seed: int, n_frames: int = 30, width: int = 256, height: int = 128,
                 palette: Palette = DAY) -> None:
        self.palette = palette
        rng = np.random.default_rng(seed)
        self.n_frames, self.width, self.height = n_frames, width, height
        self.speed = rng.uniform(0.28, 0.42)
        self.sway, self.sway_period = rng.uniform(0.012, 0.035), rng.uniform(45, 90)
        self.phase = rng.uniform(0, 2 * math.pi)
        self.solids = build_street(rng, self.speed, end=100 + self.speed * n_frames)

    def camera(self, frame: int) -> Camera:
        """Forward along the right lane at eye height, swaying a little."""
        swing = math.sin(2 * math.pi * frame / self.sway_period + self.phase)
        drift = math.cos(2 * math.pi * frame / self.sway_period + self.phase)
        position = np.array([1.6 - 0.3 * drift, 1.5 + 0.01 * math.sin(0.9 * frame), self.speed * frame])
        return Camera(position, self.sway * swing, 0.012, self.width, self.height, focal=0.8 * self.width)

    def frames(self) -> Iterator[ToyFrame]:
        """All frames; the flow of the first one is zero and invalid."""
        v, u = (grid.ravel() for grid in np.mgrid[0 : self.height, 0 : self.width].astype(float))
        previous: Hits | None = None
        for frame in range(self.n_frames):
            camera = self.camera(frame)
            hits = cast(self.solids, camera, frame, u, v)
            yield self._frame(frame, u, v, hits, previous)
            previous = hits

    def _frame(self, frame: int, u: np.ndarray, v: np.ndarray, hits: Hits, previous: Hits | None) -> ToyFrame:
        shape = self.height, self.width
        points = self._points(frame, u, v, hits)
        labels = np.array([s.label for s in self.solids] + [SKY_ID, SIDEWALK_ID])[hits.solid]
        labels[(hits.solid == GROUND) & (np.abs(points[0]) < ROAD)] = ROAD_ID
        instances = np.array([s.instance for s in self.solids] + [0, 0])[hits.solid]
        instances = np.where(instances > 0, instances, labels)
        flow, valid = np.zeros((2, u.size)), np.zeros(u.size, bool)
        if previous is not None:
            flow, valid = self._flow(frame, u, v, hits, previous, points)
        image = self._image(frame, u, v, hits)
        return ToyFrame(
            labels.reshape(shape).astype(np.uint8),
            instances.reshape(shape).astype(np.int32),
            image.reshape(*shape, 3),
            flow.reshape(2, *shape).astype(np.float32),
            valid.reshape(shape),
        )

    def _points(self, frame: int, u: np.ndarray, v: np.ndarray, hits: Hits) -> np.ndarray:
        """(3, N) surface points in world axes; for the sky the direction of the ray."""
        camera = self.camera(frame)
        rays = camera.rays(u, v)
        sky = hits.solid == SKY
        return np.where(sky, rays, camera.position[:, None] + np.where(sky, 0.0, hits.depth) * rays)

    def _flow(
        self, frame: int, u: np.ndarray, v: np.ndarray, hits: Hits, previous: Hits, points: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
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
        color = paint(self.solids, camera, frame, u, v, hits, self.palette)
        surface = hits.surface.reshape(self.height, self.width)
        border = np.zeros(surface.shape, bool)
        border[:, 1:] |= surface[:, 1:] != surface[:, :-1]
        border[1:] |= surface[1:] != surface[:-1]
        border[:, :-1] |= border[:, 1:]
        border[:-1] |= border[1:]
        here = np.flatnonzero(border)
        fine_u = (u[here] + np.array([[-0.25], [0.25], [-0.25], [0.25]])).ravel()
        fine_v = (v[here] + np.array([[-0.25], [-0.25], [0.25], [0.25]])).ravel()
        fine = paint(
            self.solids, camera, frame, fine_u, fine_v, cast(self.solids, camera, frame, fine_u, fine_v), self.palette
        )
        color[:, here] = fine.reshape(3, 4, -1).mean(1)
        return np.rint(color.T * 255).astype(np.uint8)


def render_toy_street(out: Path, options: ToyOptions) -> str:
    """Write the raw folders {train,test}_{A,B,inst,flow} below `out` (`set.render_set`)."""
    return _render(out, "street", options, (DAY,))


def render_toy_styles(out: Path, options: ToyOptions) -> str:
    """The same street in several looks, of which its labels say nothing: each video has one of `PALETTES`, in turn."""
    return _render(out, "styles", options, PALETTES)


def _render(out: Path, what: str, options: ToyOptions, palettes: Sequence[Palette]) -> str:
    def write_video(root: Path, split: str, name: str, seed: int) -> None:
        palette = palettes[(seed - options.seed) % len(palettes)]
        street = ToyStreet(seed, options.n_frames, options.width, options.height, palette)
        for i, frame in enumerate(street.frames()):
            _write_frame(root, split, f"{name}/frame{i:06d}.png", frame)

    return render_set(out, what, VERSION, options, write_video)


TOY_STREET = Toy("street", "street", ToyOptions(), render_toy_street)
TOY_STYLES = Toy("styles", "street", ToyOptions(n_train=16, n_test=2, n_frames=18, width=128, height=64),
                 render_toy_styles)


def ensure_toy_shards(out: Path = TOY_STREET.shards, raw: Path = TOY_STREET.raw) -> list[str]:
    """Render and pack the toy street unless `out` has it; returns lines to print, [] when it was there.

    Any number of processes may call it at once: one works, the others wait.
    """
    if all((out / split / "index.json").is_file() for split in SPLITS):
        return []
    log.info("no shards at %s: rendering the toy street into %s, which takes a minute or two", out, raw)
    return [render_toy_street(raw, TOY_STREET.options), *make_shards(raw, out, PackOptions(label_nc=35))]


def _write_frame(root: Path, split: str, name: str, frame: ToyFrame) -> None:
    contents = {
        "labels": encode_png(frame.labels[None]),
        "images": encode_png(frame.image.transpose(2, 0, 1)),
        "instances": encode_png(frame.instances[None]),
    }
    for modality, data in contents.items():
        write_file(root, f"{split}_{STREET.modalities[modality].folder}", name, data)
