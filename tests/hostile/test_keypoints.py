"""Landmarks and poses from anywhere: the files of detectors, as they lie in shards, read and drawn."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.attack import attack, examples, mutate, mutate_tree, nested
from vid2vid_dist.data.tasks import face
from vid2vid_dist.data.tasks.pose import KEYS, NOTHING_DROPPED, draw_people, parse_people
from vid2vid_dist.errors import UserError

SIZE = (48, 32)
NUMBERS = [b"nan", b"inf", b"-inf", b"1e999", b"1e308", b"-1e308", b"9" * 400, b"65535", b"-65535", b"1e-320", b"0x10",
           b"1_0", b"", b",", b"\n", b",,", b"\0", b"\xff", "٣".encode(), b" ", b"\r", b"null", b"true"]


def a_person() -> dict:
    rng = np.random.default_rng(0)
    return {key: [round(float(x), 2) for point in range(n) for x in (*rng.uniform(0, SIZE), rng.random())]
            for key, n in KEYS.values()}


@pytest.fixture(scope="module", autouse=True)
def drawn_once() -> None:
    """Before an attack: what is compiled for the first time is written beside the package."""
    people = parse_people(json.dumps({"people": [a_person()]}).encode(), "some/file")
    draw_people(people, SIZE, [NOTHING_DROPPED], 0.0, basic=False)
    points = np.random.default_rng(0).uniform((0, 0), SIZE, (face.N_LANDMARKS, 2))
    face.draw_edges(face.completed(points), SIZE, distances=True)


@examples(400)
def test_people(n: int, tmp_path: Path) -> None:
    tree = {"version": 1.3, "people": [a_person(), a_person()]}
    whole = json.dumps(tree).encode()

    def hostile_people(rng: random.Random) -> bytes:
        kind = rng.random()
        if kind < 0.05:
            return nested(rng, *rng.choice([("[", "]"), ('{"people":', "}"), ('{"people":[', "]}")])).encode()
        if kind < 0.4:
            return mutate(rng, whole, [*NUMBERS, b"[]", b"{}", b'"', b"\\ud800", b'{"people": []}'])
        changed = tree | {"people": [mutate_one_number(rng, person) for person in tree["people"]]}
        return json.dumps(changed if kind < 0.6 else mutate_tree(rng, changed)).encode()

    def use(data: bytes) -> None:
        people = parse_people(data, "some/file")
        draws = [NOTHING_DROPPED] * len(people)
        assert draw_people(people, SIZE, draws, 0.0, basic=False).shape == (SIZE[1], SIZE[0], 3)

    assert n / 10 < attack(n, hostile_people, use, tmp_path) < n


def mutate_one_number(rng: random.Random, person: dict) -> dict:
    """Somewhere far away, at a border, or where numbers end."""
    key = rng.choice(list(person))
    points = list(person[key])
    points[rng.randrange(len(points))] = rng.choice([-1, 0, 0.0, -0.0, SIZE[0], 65535.9, -65535.9, 65536, 1e18, 1e308])
    return person | {key: points}


@examples(400)
def test_landmarks(n: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform((0, 0), SIZE, (face.N_LANDMARKS, 2))
    whole = "".join(f"{x:.1f},{y:.1f}\n" for x, y in points).encode()

    def hostile_landmarks(rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return mutate(rng, whole, NUMBERS)
        changed = points.copy()
        for _ in range(rng.choice([1, 3, 68])):
            changed[rng.randrange(len(changed))] = rng.choice([
                (0, 0), SIZE, (2 * SIZE[0], 2 * SIZE[1]), (-SIZE[0], -SIZE[1]), (24, 16), (1e18, 1), (24.001, 16)])
        return "".join(f"{x},{y}\n" for x, y in changed).encode()

    def use(data: bytes) -> None:
        found = face.completed(face.parse_landmarks(data, "some/file", SIZE))
        left, top, right, bottom = face.crop_box(found[: face.N_LANDMARKS], SIZE)
        assert right > left
        assert bottom > top
        for shape in (found, face.rescaled(found)):
            assert face.draw_edges(shape, SIZE, distances=True).shape == (15, SIZE[1], SIZE[0])
            assert face.part_labels(shape, SIZE).shape == (SIZE[1], SIZE[0])

    assert n / 10 < attack(n, hostile_landmarks, use, tmp_path) < n


def test_a_giant_is_drawn_and_a_crowd_refused() -> None:
    """A person across the whole range of coordinates; then a file of many."""
    far = [65535.0, 65535.0, 1.0, -65535.0, -65535.0, 1.0]
    person = {key: (far * n)[: 3 * n] for key, n in KEYS.values()}
    people = parse_people(json.dumps({"people": [person]}).encode(), "some/file")
    assert draw_people(people, SIZE, [NOTHING_DROPPED] * len(people), 0.0, basic=False).shape == (SIZE[1], SIZE[0], 3)
    with pytest.raises(UserError, match=r"some/file: 101 people, more than 100"):
        parse_people(json.dumps({"people": [person] * 101}).encode(), "some/file")


def test_a_number_of_hundreds_of_digits_is_refused() -> None:
    data = json.dumps({"people": [a_person()]}).encode().replace(b"0.", b"9" * 400 + b",0.", 1)
    with pytest.raises(UserError, match=r"some/file: not a whole JSON file of OpenPose \(OverflowError"):
        parse_people(data, "some/file")


@pytest.mark.parametrize("data", [b"", b"1,2", b"1,2\n" * 67, b"1,2\n" * 69, b"1,2,3\n" * 68, b"\xff\xfe" * 500])
def test_text_that_is_no_face(data: bytes) -> None:
    with pytest.raises(UserError, match=r"some/file.*detect"):
        face.parse_landmarks(data, "some/file", SIZE)
