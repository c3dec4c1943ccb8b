"""The colours of the toy street: textures fixed to their surfaces, a sun, haze.

Every texture is a function of the place on the surface, blurred by the size of a pixel there
(`blur`, metres), so that it moves with the surface and does not flicker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vid2vid_dist.toy.scene import GROUND, SKY, Camera, Hits, Solid

ROAD, KERB = 5.0, 5.25
"""Half width of the carriageway and the outer edge of its kerb, metres from the middle of the street."""
SUN = np.array([-0.45, 0.75, -0.48])


@dataclass(frozen=True)
class Palette:
    """The look of a video: colours of sky, cloud, road and pavement, and factors of the tints of solids by material."""

    horizon: tuple[float, float, float] = (0.80, 0.85, 0.90)
    zenith: tuple[float, float, float] = (0.36, 0.55, 0.82)
    cloud: tuple[float, float, float] = (0.95, 0.96, 0.97)
    road: tuple[float, float, float] = (0.34, 0.34, 0.36)
    walk: tuple[float, float, float] = (0.62, 0.58, 0.55)
    tints: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


DAY = Palette()
PALETTES = (
    DAY,
    Palette(horizon=(0.98, 0.62, 0.38), zenith=(0.52, 0.30, 0.50), cloud=(1.0, 0.76, 0.55), road=(0.34, 0.25, 0.24),
            walk=(0.62, 0.44, 0.36), tints={"facade": (1.05, 0.80, 0.66), "leaves": (2.6, 0.95, 0.55)}),
    Palette(horizon=(0.92, 0.93, 0.95), zenith=(0.74, 0.77, 0.82), cloud=(0.98, 0.98, 0.99), road=(0.80, 0.82, 0.86),
            walk=(0.92, 0.94, 0.97), tints={"facade": (0.90, 0.94, 1.02), "leaves": (2.9, 2.0, 4.8)}),
    Palette(horizon=(0.10, 0.13, 0.26), zenith=(0.02, 0.03, 0.10), cloud=(0.14, 0.16, 0.26), road=(0.10, 0.11, 0.17),
            walk=(0.17, 0.18, 0.26), tints={"facade": (0.34, 0.34, 0.50), "leaves": (0.22, 0.30, 0.55)}),
)
"""Day, autumn evening, snow, night."""


@dataclass(frozen=True)
class Patch:
    """N places on one surface: `at` (3, N) metres from its centre, pixel size across and along."""

    at: np.ndarray
    normal: np.ndarray
    half: np.ndarray
    blur: np.ndarray
    blur_along: np.ndarray
    tint: np.ndarray
    key: int


def paint(
    solids: list[Solid], camera: Camera, frame: int, u: np.ndarray, v: np.ndarray, hits: Hits, palette: Palette = DAY
) -> np.ndarray:
    """(3, N) colours in [0, 1] of what `hits` says that pixels (u, v) see."""
    rays = camera.rays(u, v)
    color = np.empty_like(rays)
    sky = hits.solid == SKY
    color[:, sky] = _sky(rays[:, sky], palette)
    depth = np.where(sky, 0.0, hits.depth)
    points = camera.position[:, None] + depth * rays
    blur = np.maximum(depth / camera.focal, 1e-3)
    facing = np.abs((hits.normal * rays).sum(0)) / np.linalg.norm(rays, axis=0)
    along = blur / np.maximum(facing, 0.02)
    ground = np.flatnonzero(hits.solid == GROUND)
    color[:, ground] = _ground(points[:, ground], blur[ground], along[ground], palette)
    color[:, ground] *= 1 - 0.5 * _shadow(solids, points[:, ground], frame)
    for number in np.unique(hits.solid[hits.solid >= 0]):
        solid, here = solids[number], np.flatnonzero(hits.solid == number)
        patch = Patch(
            points[:, here] - solid.centre_at(frame)[:, None],
            hits.normal[:, here],
            solid.half,
            blur[here],
            along[here],
            solid.tint * np.array(palette.tints.get(solid.material, (1.0, 1.0, 1.0))),
            solid.key,
        )
        light = 0.55 + 0.55 * np.maximum(SUN @ patch.normal, 0)
        color[:, here] = _MATERIALS[solid.material](patch) * light
    haze = np.where(sky, 0.0, 1 - np.exp(-depth / 160))
    return np.clip(color * (1 - haze) + np.array(palette.horizon)[:, None] * haze, 0, 1)


def stripe(x: np.ndarray, half: float | np.ndarray, blur: np.ndarray) -> np.ndarray:
    """How much of a pixel around x lies in [-half, half], for a pixel `blur` wide: 0..1."""
    return np.clip((np.minimum(x + blur / 2, half) - np.maximum(x - blur / 2, -half)) / blur, 0, 1)


def stripes(x: np.ndarray, period: float, half: float, blur: np.ndarray) -> np.ndarray:
    """Stripes of width 2 half around the multiples of `period`, fading to their mean when too fine to see."""
    seen = np.clip(1.6 - 1.2 * blur / period, 0, 1)
    return seen * stripe(x - period * np.round(x / period), half, blur) + (1 - seen) * (2 * half / period)


def hash01(i: np.ndarray, j: np.ndarray, key: int) -> np.ndarray:
    """A fixed random number in [0, 1) for every pair of integers."""
    h = (i.astype(np.int64) * 374761393 + j.astype(np.int64) * 668265263 + key * 974711).astype(np.uint32)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return ((h ^ (h >> np.uint32(16))) & np.uint32(0xFFFF)) / 65536.0


def noise(x: np.ndarray, y: np.ndarray, key: int, blur: np.ndarray) -> np.ndarray:
    """Smooth random field of unit cells in [-1, 1], fading to 0 when a cell is smaller than a pixel."""
    i, j = np.floor(x), np.floor(y)
    fx, fy = x - i, y - j
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    low = hash01(i, j, key) * (1 - fx) + hash01(i + 1, j, key) * fx
    high = hash01(i, j + 1, key) * (1 - fx) + hash01(i + 1, j + 1, key) * fx
    return (2 * (low * (1 - fy) + high * fy) - 1) * np.clip(1.5 - blur, 0, 1)


def mix(a: np.ndarray, b: np.ndarray | tuple[float, ...], weight: np.ndarray) -> np.ndarray:
    """From colours a to colours b as weight goes from 0 to 1."""
    b = np.asarray(b, float)
    return a * (1 - weight) + (b[:, None] if b.ndim == 1 else b) * weight


def flat(color: tuple[float, ...] | np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.asarray(color, float)[:, None], (3, like.shape[-1])).copy()


def _sky(rays: np.ndarray, palette: Palette) -> np.ndarray:
    up = np.maximum(rays[1] / np.linalg.norm(rays, axis=0), 1e-3)
    color = mix(flat(palette.horizon, up), palette.zenith, np.clip(up * 1.8, 0, 1))
    x, z = rays[0] / up * 0.9, rays[2] / up * 0.9
    still = np.zeros_like(up)
    cloud = (
        0.6 * noise(x, z, 5, still)
        + 0.3 * noise(2 * x, 2 * z, 6, still)
        + 0.2 * noise(4 * x, 4 * z, 7, still)
    )
    return mix(color, palette.cloud, np.clip(cloud * 1.6 + 0.1, 0, 1) * np.clip(up * 8 - 0.6, 0, 0.9))


def _ground(points: np.ndarray, blur: np.ndarray, along: np.ndarray, palette: Palette) -> np.ndarray:
    x, z = points[0], points[2]
    mottle = 0.5 * noise(x / 1.5, z / 4, 1, along / 4) + 0.5 * noise(x * 3, z * 3, 2, along * 3)
    road = flat(palette.road, x) * (1 + 0.10 * mottle)
    dashes = stripes(z, 7.5, 1.6, along)
    crossing = stripe((z % 70.0) - 45, 1.6, along) * stripes(x, 1.1, 0.28, blur)
    marks = np.maximum.reduce(
        [stripe(x, 0.08, blur) * dashes, stripe(np.abs(x) - 3.05, 0.06, blur), crossing]
    )
    road = mix(road, (0.88, 0.88, 0.86), marks * 0.9)
    slabs = np.maximum(stripes(x, 1.0, 0.025, blur), stripes(z, 1.0, 0.025, along))
    walk = flat(palette.walk, x) * (1 + 0.07 * mottle) * (1 - 0.25 * slabs)
    distance = np.abs(x)
    color = mix(walk, road, stripe(x, ROAD, blur))
    return mix(color, (0.74, 0.74, 0.73), stripe(distance - (ROAD + KERB) / 2, (KERB - ROAD) / 2, blur))


def _shadow(solids: list[Solid], points: np.ndarray, frame: int) -> np.ndarray:
    """0..1, how dark the ground is: below cars and trees, beside the buildings that the sun is behind."""
    x, z = points[0], points[2]
    dark = np.zeros_like(x)
    for solid in solids:
        centre, half = solid.centre_at(frame), solid.half
        if solid.material == "car":
            outside = np.maximum(np.abs(x - centre[0]) - half[0], np.abs(z - centre[2]) - half[2])
            dark = np.maximum(dark, np.clip(0.9 - outside / 0.5, 0, 1))
        elif solid.material == "leaves":
            reach = centre[1] / SUN[1]
            r = np.hypot(
                (x - centre[0] + SUN[0] * reach) / half[0], (z - centre[2] + SUN[2] * reach) / half[2]
            )
            dark = np.maximum(dark, 0.75 * np.clip((1.15 - r) / 0.3, 0, 1))
        elif solid.material == "facade" and centre[0] < 0:
            reach = 2 * half[1] * 0.35
            outside = np.maximum(x - (centre[0] + half[0] + reach), np.abs(z - centre[2]) - half[2])
            dark = np.maximum(dark, 0.75 * np.clip(0.5 - outside / 0.4, 0, 1))
    return dark


def _facade(patch: Patch) -> np.ndarray:
    """Rows of windows over a shop floor, with a cornice."""
    side = np.abs(patch.normal[0]) > 0.5
    half = np.where(side, patch.half[2], patch.half[0])
    a, up = np.where(side, patch.at[2], patch.at[0]) + half, patch.at[1] + patch.half[1]
    columns = np.maximum(np.round(2 * half / 2.7), 1)
    period = 2 * half / columns
    column, level = np.floor(a / period), np.floor((up - 3.6) / 3.0)
    da, du = a - period * (column + 0.5), up - 3.6 - 3.0 * (level + 0.5)
    wall = flat(patch.tint, a) * (
        1
        + 0.06 * noise(a * 1.5, up * 1.5, patch.key, patch.blur_along * 1.5)
        + 0.05 * noise(a / 3, up / 3, patch.key + 1, patch.blur_along / 3)
    )
    upper = ((up > 3.6) & (up < 2 * patch.half[1] - 0.9)).astype(float)
    frame = stripe(da, 0.74, patch.blur_along) * stripe(du, 0.98, patch.blur) * upper
    glass = stripe(da, 0.58, patch.blur_along) * stripe(du, 0.84, patch.blur) * upper
    lit = hash01(column, level, patch.key)
    pane = np.stack([0.13 + 0.16 * lit, 0.17 + 0.17 * lit, 0.22 + 0.18 * lit]) + 0.06 * (du + 1)
    seen = np.clip(1.6 - 1.2 * patch.blur_along / period, 0, 1)
    frame, glass = seen * frame + (1 - seen) * 0.32 * upper, seen * glass + (1 - seen) * 0.24 * upper
    color = mix(mix(wall, (0.85, 0.84, 0.80), frame), pane, glass)
    shop = stripe(a - 2 * period * (np.floor(a / (2 * period)) + 0.5), 0.8 * period, patch.blur_along)
    window = shop * stripe(up - 1.5, 1.1, patch.blur)
    goods = 0.2 + 0.25 * hash01(np.floor(a / period * 2), np.zeros_like(a), patch.key + 3)
    color = mix(color, np.stack([goods, goods * 0.95, goods * 0.9]), window * 0.9)
    sign = np.array([0.25, 0.25, 0.25]) + 0.5 * np.eye(3)[patch.key % 3]
    color = mix(color, sign, shop * stripe(up - 3.05, 0.28, patch.blur) * (patch.key % 4 > 0))
    ledge = np.maximum(
        stripe(up - 3.5, 0.09, patch.blur), stripe(up - 2 * patch.half[1] + 0.35, 0.35, patch.blur)
    )
    return mix(color, tuple(np.minimum(patch.tint * 1.15, 1)), ledge)


def _leaves(patch: Patch) -> np.ndarray:
    x, y = patch.at[0] + 0.6 * patch.at[2], patch.at[1] - 0.3 * patch.at[2]
    clumps = 0.5 * noise(2 * x, 2 * y, patch.key, 2 * patch.blur) + 0.5 * noise(
        5 * x, 5 * y, patch.key + 1, 5 * patch.blur
    )
    return flat(patch.tint, x) * (0.95 + 0.5 * clumps) * (0.85 + 0.3 * patch.at[1] / patch.half[1])


def _bark(patch: Patch) -> np.ndarray:
    return flat(patch.tint, patch.at) * (
        1 + 0.15 * noise(6 * patch.at[0], 2 * patch.at[1], patch.key, 6 * patch.blur)
    )


def _metal(patch: Patch) -> np.ndarray:
    return flat(patch.tint, patch.at)


def _car(patch: Patch) -> np.ndarray:
    """The lower body: wheels and door lines on the sides, lights and number plate at the ends."""
    x, z, up = patch.at[0], patch.at[2], patch.at[1] + patch.half[1]
    side = np.abs(patch.normal[0]) > 0.5
    color = flat(patch.tint, x)
    sill = stripe(up - 0.05, 0.14, patch.blur)
    wheel = np.hypot(np.abs(z) - 0.62 * patch.half[2], up - 0.25)
    doors = stripe(z - 0.1, 0.02, patch.blur_along) * stripe(up - 0.5, 0.3, patch.blur)
    flank = mix(
        mix(color, (0.08, 0.08, 0.08), np.maximum(sill, 0.5 * doors)),
        (0.06, 0.06, 0.07),
        stripe(wheel, 0.34, patch.blur),
    )
    flank = mix(flank, (0.55, 0.55, 0.57), stripe(wheel, 0.17, patch.blur))
    front = np.sign(patch.normal[2]) * np.where(patch.key % 2, 1, -1) > 0
    lamp = stripe(np.abs(x) - 0.68 * patch.half[0], 0.17, patch.blur) * stripe(up - 0.58, 0.10, patch.blur)
    lamps = np.where(front, np.array([[0.98], [0.96], [0.85]]), np.array([[0.85], [0.08], [0.06]]))
    end = mix(
        mix(color, (0.10, 0.10, 0.11), np.maximum(sill, stripe(up - 0.2, 0.06, patch.blur))), lamps, lamp
    )
    end = mix(end, (0.92, 0.92, 0.88), stripe(x, 0.26, patch.blur) * stripe(up - 0.38, 0.07, patch.blur))
    return np.where(side, flank, np.where(np.abs(patch.normal[2]) > 0.5, end, color * 1.05))


def _cabin(patch: Patch) -> np.ndarray:
    """Windows between pillars below a painted roof."""
    side = np.abs(patch.normal[0]) > 0.5
    across, half = np.where(side, patch.at[2], patch.at[0]), np.where(side, patch.half[2], patch.half[0])
    glass = stripe(across, half - 0.10, patch.blur_along) * stripe(
        patch.at[1] + 0.03, patch.half[1] - 0.07, patch.blur
    )
    glass *= 1 - stripe(across, 0.05, patch.blur_along) * side
    shine = 0.16 + 0.10 * np.clip(patch.at[1] / patch.half[1], -1, 1)
    color = mix(flat(patch.tint, across), np.stack([shine, shine * 1.1, shine * 1.25]), glass)
    return np.where(patch.normal[1] > 0.5, flat(patch.tint, across) * 1.05, color)


_MATERIALS = {
    "facade": _facade,
    "leaves": _leaves,
    "bark": _bark,
    "metal": _metal,
    "car": _car,
    "cabin": _cabin,
}
