"""What stands and drives in the toy street."""

from itertools import count

import numpy as np

from vid2vid_dist.toy.scene import Solid

ROAD_ID, SIDEWALK_ID, BUILDING_ID, POLE_ID, TREE_ID, SKY_ID, CAR_ID = 7, 8, 11, 17, 21, 23, 26
"""Cityscapes label ids. The instance id of a car is 26 * 1000 + its number, of all else the label."""

WALLS = [
    (0.72, 0.60, 0.48),
    (0.78, 0.74, 0.66),
    (0.62, 0.36, 0.30),
    (0.60, 0.62, 0.64),
    (0.82, 0.76, 0.56),
    (0.55, 0.50, 0.46),
    (0.70, 0.66, 0.70),
    (0.50, 0.40, 0.34),
]
PAINTS = [
    (0.75, 0.76, 0.78),
    (0.10, 0.10, 0.12),
    (0.60, 0.10, 0.10),
    (0.14, 0.22, 0.45),
    (0.85, 0.85, 0.83),
    (0.35, 0.37, 0.40),
    (0.20, 0.32, 0.26),
]


def build_street(rng: np.random.Generator, camera_speed: float, end: float) -> list[Solid]:
    """Buildings, trees, lamp posts and parked cars on both sides up to z = `end` metres, traffic on the road.

    The camera starts at z = 0 in the right lane and moves by `camera_speed` metres per frame.
    """
    numbers = count()
    solids = _cross_street(rng, end)
    for side in (-1, 1):
        solids += _buildings(rng, side, end)
        for z in np.arange(rng.uniform(2, 12), end, rng.uniform(11, 17)):
            solids += _tree(rng, side * rng.uniform(6.2, 6.7), z)
        for z in np.arange(rng.uniform(6, 20), end, 24.0):
            solids += _lamp(side, z)
        for z in np.arange(rng.uniform(0, 6), end - 20, 6.4):
            if rng.random() < 0.4:
                x = side * rng.uniform(3.9, 4.05)
                solids += _car(rng, next(numbers), x, z + rng.uniform(-0.4, 0.4), 0.0, side)
    for z in np.cumsum(rng.uniform(16, 34, 4)) + rng.uniform(8, 20):
        solids += _car(rng, next(numbers), -1.6, z, -rng.uniform(0.30, 0.33), -1)
    # Whoever drives ahead is never slower than who drives behind by more than the gap allows.
    ahead = rng.uniform(9, 14)
    for _ in range(int(rng.integers(0, 3))):
        solids += _car(rng, next(numbers), 1.6, ahead, camera_speed + rng.uniform(0.0, 0.08), 1)
        ahead += rng.uniform(14, 30)
    return solids


def _cross_street(rng: np.random.Generator, end: float) -> list[Solid]:
    """A row of houses across the end, so that the vanishing point is no hole."""
    centre, half = np.array([0.0, 6.0, end + 20]), np.array([40.0, 6.0, 5.0])
    return [Solid("box", "facade", centre, half, BUILDING_ID, 0, _pick(rng, WALLS), _key(rng))]


def _buildings(rng: np.random.Generator, side: int, end: float) -> list[Solid]:
    solids, z = [], -20.0
    while z < end:
        length, setback = rng.uniform(9, 17), rng.uniform(8.6, 9.2)
        height = rng.choice([10.0, 13.0, 16.0]) + rng.uniform(0, 1)
        centre = np.array([side * (setback + 6), height / 2, z + length / 2])
        half = np.array([6, height / 2, length / 2])
        tint = np.minimum(_pick(rng, WALLS) * rng.uniform(0.9, 1.1), 1)
        solids.append(Solid("box", "facade", centre, half, BUILDING_ID, 0, tint, _key(rng)))
        z += length + (rng.uniform(3, 7) if rng.random() < 0.2 else 0.0)
    return solids


def _tree(rng: np.random.Generator, x: float, z: float) -> list[Solid]:
    """A trunk and three balls of leaves."""
    green = np.array([0.26, 0.42, 0.16]) * rng.uniform(0.8, 1.2)
    height, spread = rng.uniform(3.6, 4.6), rng.uniform(1.1, 1.6)
    trunk = np.array([x, height / 2, z]), np.array([0.15, height / 2, 0.15])
    solids = [Solid("post", "bark", *trunk, TREE_ID, 0, np.array([0.34, 0.27, 0.21]))]
    for _ in range(3):
        centre = np.array([x, height + 0.2, z]) + rng.uniform(-0.7, 0.7, 3)
        half = spread * rng.uniform(0.7, 1.0, 3)
        solids.append(Solid("ball", "leaves", centre, half, TREE_ID, 0, green, _key(rng)))
    return solids


def _lamp(side: int, z: float) -> list[Solid]:
    """A post with an arm over the road."""
    grey = np.array([0.40, 0.42, 0.43])
    post = np.array([side * 5.6, 3.2, z]), np.array([0.08, 3.2, 0.08])
    arm = np.array([side * 4.9, 6.35, z]), np.array([0.75, 0.06, 0.10])
    return [Solid("post", "metal", *post, POLE_ID, 0, grey), Solid("box", "metal", *arm, POLE_ID, 0, grey)]


def _car(rng: np.random.Generator, number: int, x: float, z: float, speed: float, side: int) -> list[Solid]:
    """A body and a cabin on it; side 1 shows us its tail, side -1 its head (the lowest bit of the key)."""
    tint, length = _pick(rng, PAINTS), rng.uniform(1.95, 2.3)
    instance, key = CAR_ID * 1000 + number, 2 * _key(rng) + (side > 0)
    body = np.array([x, 0.48, z]), np.array([0.88, 0.48, length])
    cabin = np.array([x, 1.22, z - 0.25 * side]), np.array([0.76, 0.27, 0.55 * length])
    return [
        Solid("box", "car", *body, CAR_ID, instance, tint, key, speed),
        Solid("box", "cabin", *cabin, CAR_ID, instance, tint, key, speed),
    ]


def _pick(rng: np.random.Generator, colors: list[tuple[float, float, float]]) -> np.ndarray:
    return np.array(colors[rng.integers(len(colors))])


def _key(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 10**6))
