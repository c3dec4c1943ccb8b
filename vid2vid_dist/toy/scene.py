"""The geometry of the toy street: a few analytic surfaces, a pinhole camera, rays between them.

World axes: x right, y up, z along the street, in metres; time in frames. Pixel (u, v) has its
centre at integer coordinates, u right, v down. Everything moves by translation only, so the place
of a visible surface point one frame earlier, and with it the optical flow, is exact.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

NEAR = 0.3
SKY, GROUND = -2, -1
"""Surfaces that are no solid."""
_FACES = np.array([1.0, 2.0, 3.0])
_CORNERS = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])


@dataclass(frozen=True)
class Solid:
    """A box, an upright cylinder ("post") or an ellipsoid ("ball").

    `centre` in frame 0 and half extents `half` in metres; `speed` is its motion along z in metres per
    frame, `material` what it is painted as.
    """

    shape: str
    material: str
    centre: np.ndarray
    half: np.ndarray
    label: int
    instance: int
    tint: np.ndarray
    key: int = 0
    speed: float = 0.0

    def centre_at(self, frame: int) -> np.ndarray:
        return self.centre + np.array([0.0, 0.0, self.speed * frame])


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: position (metres), yaw to the right, pitch down (radians), focal length (pixels)."""

    position: np.ndarray
    yaw: float
    pitch: float
    width: int
    height: int
    focal: float

    @cached_property
    def rotation(self) -> np.ndarray:
        """Columns: the camera's right, up and forward in world axes."""
        sin_y, cos_y, sin_p, cos_p = (
            math.sin(self.yaw),
            math.cos(self.yaw),
            math.sin(self.pitch),
            math.cos(self.pitch),
        )
        return np.array(
            [
                [cos_y, sin_y * sin_p, sin_y * cos_p],
                [0.0, cos_p, -sin_p],
                [-sin_y, cos_y * sin_p, cos_y * cos_p],
            ]
        )

    def rays(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(3, N) directions in world axes; one unit of ray parameter is one metre of depth."""
        local = np.stack(
            [
                (u - (self.width - 1) / 2) / self.focal,
                ((self.height - 1) / 2 - v) / self.focal,
                np.ones_like(u),
            ]
        )
        return self.rotation @ local

    def project(self, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(3, N) vectors from the camera to points (or directions of points at infinity) -> u, v, depth."""
        x, y, depth = self.rotation.T @ offset
        safe = np.where(depth > 1e-9, depth, 1e-9)
        return (
            x / safe * self.focal + (self.width - 1) / 2,
            (self.height - 1) / 2 - y / safe * self.focal,
            depth,
        )


@dataclass
class Hits:
    """What N rays see first: depth in metres (inf = sky), solid number or GROUND or SKY, unit normal (3, N).

    `surface` is a number per smooth surface: the faces of a box differ.
    """

    depth: np.ndarray
    solid: np.ndarray
    normal: np.ndarray
    surface: np.ndarray


def cast(solids: list[Solid], camera: Camera, frame: int, u: np.ndarray, v: np.ndarray) -> Hits:
    """The first surface along the rays of pixels (u, v), each of shape (N,)."""
    rays = camera.rays(u, v)
    down = rays[1] < -1e-6
    ground = np.where(down, -camera.position[1] / np.where(down, rays[1], -1.0), np.inf)
    solid_number = np.where(down, GROUND, SKY)
    normals = np.stack([np.zeros_like(u), down.astype(float), np.zeros_like(u)])
    hits = Hits(ground, solid_number, normals, solid_number * 10)
    for number, (left, right, top, bottom) in _screen_boxes(solids, camera, frame):
        near = np.flatnonzero((u >= left) & (u <= right) & (v >= top) & (v <= bottom))
        if not near.size:
            continue
        solid = solids[number]
        depth, normal = _INTERSECT[solid.shape](
            camera.position - solid.centre_at(frame), rays[:, near], solid.half
        )
        seen = depth < hits.depth[near]
        near = near[seen]
        hits.depth[near], hits.solid[near], hits.normal[:, near] = depth[seen], number, normal[:, seen]
        face = np.rint(_FACES @ normal[:, seen]).astype(int) if solid.shape == "box" else 0
        hits.surface[near] = number * 10 + face
    return hits


def _screen_boxes(solids: list[Solid], camera: Camera, frame: int) -> Iterator[tuple[int, np.ndarray]]:
    """Number of each solid that may be in the picture, and its range (left, right, top, bottom) there."""
    centres = np.stack([solid.centre_at(frame) for solid in solids]) - camera.position
    corners = centres[:, None] + _CORNERS * np.stack([solid.half for solid in solids])[:, None]
    u, v, depth = (x.reshape(len(solids), 8) for x in camera.project(corners.reshape(-1, 3).T))
    boxes = np.stack([u.min(1), u.max(1), v.min(1), v.max(1)], axis=1)
    # Partly behind the camera: the projections of the corners bound nothing.
    boxes[depth.min(1) < NEAR] = -np.inf, np.inf, -np.inf, np.inf
    left, right, top, bottom = boxes.T
    seen = (
        (depth.max(1) > NEAR) & (right > -1) & (left < camera.width) & (bottom > -1) & (top < camera.height)
    )
    for number in np.flatnonzero(seen):
        yield int(number), boxes[number]


def _hit_box(origin: np.ndarray, rays: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slab method; `origin` is relative to the box's centre. Depth inf where there is no hit."""
    safe = np.where(np.abs(rays) < 1e-12, 1e-12, rays)
    facing = np.sign(safe)
    first = (-facing * half[:, None] - origin[:, None]) / safe
    last = (facing * half[:, None] - origin[:, None]) / safe
    enter = np.maximum(np.maximum(first[0], first[1]), first[2])
    leave = np.minimum(np.minimum(last[0], last[1]), last[2])
    depth = np.where((enter <= leave) & (enter > NEAR), enter, np.inf)
    return depth, np.where(first == enter, -facing, 0.0)


def _hit_post(origin: np.ndarray, rays: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The side of an upright cylinder of radius half[0] (its ends are never seen)."""
    depth = _nearest_root(
        rays[0] ** 2 + rays[2] ** 2,
        origin[0] * rays[0] + origin[2] * rays[2],
        origin[0] ** 2 + origin[2] ** 2 - half[0] ** 2,
    )
    point = origin[:, None] + np.where(np.isfinite(depth), depth, 0.0) * rays
    depth = np.where(np.abs(point[1]) <= half[1], depth, np.inf)
    return depth, np.stack([point[0], np.zeros_like(depth), point[2]]) / half[0]


def _hit_ball(origin: np.ndarray, rays: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid: a unit sphere in scaled space."""
    scaled, start = rays / half[:, None], origin / half
    depth = _nearest_root((scaled**2).sum(0), start @ scaled, start @ start - 1)
    point = start[:, None] + np.where(np.isfinite(depth), depth, 0.0) * scaled
    normal = point / half[:, None]
    return depth, normal / np.maximum(np.linalg.norm(normal, axis=0), 1e-12)


def _nearest_root(a: np.ndarray, half_b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Smaller root of a t^2 + 2 half_b t + c = 0 beyond the near plane, inf if there is none."""
    discriminant = half_b**2 - a * c
    root = (-half_b - np.sqrt(np.maximum(discriminant, 0))) / np.maximum(a, 1e-12)
    return np.where((discriminant >= 0) & (root > NEAR), root, np.inf)


_INTERSECT = {"box": _hit_box, "post": _hit_post, "ball": _hit_ball}
