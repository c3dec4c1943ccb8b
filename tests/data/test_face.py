"""Faces: bad landmark files, the crop near and past the border, generation as another face, shards."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.face_curves import curve_through, pieces
from vid2vid_dist.data.geometry import MIDDLE, Geometry, clip_geometry
from vid2vid_dist.data.inputs import FrameFiles
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.tasks import face
from vid2vid_dist.errors import UserError
from vid2vid_dist.toy.face import PERSONS, Expression, head_points, render_toy_face, render_toy_faces
from vid2vid_dist.toy.set import ToyOptions

SIZE = (96, 72)
POINTS = np.rint(head_points(Expression(0.5, 1.0, 0.0))[:, :2] * 24 + (48, 32))
LINES = [f"{x:.0f},{y:.0f}" for x, y in POINTS]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy face of 2 + 1 videos of 5 frames, 96x72."""
    here = tmp_path_factory.mktemp("face")
    render_toy_face(here / "raw", ToyOptions(n_train=2, n_test=1, n_frames=5, width=96, height=72))
    make_shards(here / "raw", here / "shards", PackOptions(task="face"))
    return here / "shards"


def config(shards: Path, **options: Any) -> DataConfig:
    return replace(DataConfig(shards=str(shards), task="face", label_nc=0, input_nc=15, loadSize=64), **options)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (LINES[:-1], "67 lines, expected 68"),
        ([*LINES[:-1], "3"], "68 lines, expected 68 lines x,y"),
        ([*LINES[:9], "nan,4", *LINES[10:]], "frame.txt:10: a landmark is not a finite number"),
        ([*LINES[:9], "400,4", *LINES[10:]], "frame.txt:10: a landmark lies further"),
        (["5,5"] * 68, "the face has no width"),
        ([f"{i / 68},0.5" for i in range(68)], "they are no pixels"),
    ],
    ids=["missing row", "missing number", "nan", "far outside", "no width", "no pixels"],
)
def test_bad_landmarks_are_refused(lines: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        face.parse_landmarks("\n".join(lines).encode(), "frame.txt", SIZE)


@pytest.mark.parametrize("text", [
    "\ufeff" + "\n".join(LINES), "\n".join(LINES).replace(",", ", "), "\r\n".join(LINES) + "\r\n\r\n",
], ids=["mark", "space", "CRLF"])
def test_landmarks_as_other_programs_write_them(text: str) -> None:
    np.testing.assert_array_equal(face.parse_landmarks(text.encode(), "", SIZE), POINTS)


def test_bad_landmarks_stop_the_packing(tmp_path: Path) -> None:
    render_toy_face(tmp_path / "raw", ToyOptions(n_train=1, n_test=1, n_frames=3, width=96, height=72))
    file = tmp_path / "raw/train_keypoints/face0000/frame000001.txt"
    file.write_text("\n".join(LINES[:-1]))
    with pytest.raises(UserError, match=r"frame000001\.txt: 67 lines"):
        make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(task="face"))
    file.unlink()
    with pytest.raises(UserError, match=r"train_img/face0000/frame000001\.png has no partner in .*train_keypoints/"):
        make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(task="face"))


def test_landmarks_outside_are_drawn_on_the_border() -> None:
    points = POINTS - (40, 0)
    assert face.parse_landmarks("\n".join(f"{x},{y}" for x, y in points).encode(), "", SIZE).min() < 0
    drawn = face.draw_edges(face.completed(points), SIZE, distances=False)[0]
    assert drawn[:, 0].any()
    assert not drawn[:, 60:].any()


@pytest.mark.parametrize("box", [None, (10, 6, 70, 60), (0, 0, 4, 5), (90, 2, 96, 72)])
def test_distances_are_those_of_the_whole_frame(box: tuple[int, int, int, int] | None) -> None:
    """Each edge against OpenCV's transform of a frame with that edge alone."""
    size = 900, 90  # so long that distances end at 255
    points = face.completed(POINTS)
    drawn = face.draw_edges(points, size, distances=True, box=box)
    left, top, right, bottom = box or (0, 0, *size)
    for number, edge in enumerate((edge for part in face.PARTS for edge in part.edges), 1):
        only = np.zeros(size[::-1], np.uint8)
        for curve in (curve_through(points[numbers]) for numbers in pieces(edge)):
            if curve is not None:
                for dy in (-1, 0):
                    for dx in (-1, 0):
                        only[np.clip(curve.y + dy, 0, size[1] - 1), np.clip(curve.x + dx, 0, size[0] - 1)] = 255
        away = np.clip(cv2.distanceTransform(255 - only, cv2.DIST_L1, 3) / 3, 0, 255).astype(np.uint8)
        np.testing.assert_array_equal(drawn[number], away[top:bottom, left:right])


def test_maps_are_cut_and_scaled_as_each_alone() -> None:
    maps = np.random.default_rng(0).integers(0, 256, (6, SIZE[1], SIZE[0]), dtype=np.uint8)
    geometry = Geometry((64, 40), (32, 20), (7, 5), flip=True, source=(-8, 3, 70, 90))
    left, top, right, bottom = shown = geometry.shown(SIZE)
    together = geometry.apply_maps(maps[:, top:bottom, left:right], shown)
    for found, one in zip(together, maps, strict=True):
        image = Image.fromarray(one).crop((-8, 3, 70, 90)).resize((64, 40), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found, np.asarray(image)[5:25, 7:39][:, ::-1])


def test_a_crop_larger_than_the_frame_is_padded() -> None:
    """The square sticks out: edges and image alike are black there, and nothing is wrapped around."""
    left, top, right, bottom = box = face.crop_box(POINTS * 1.5, SIZE)
    assert (right - left, bottom - top) == (90, 90)
    assert top < 0
    geometry = clip_geometry(SIZE, DataConfig(loadSize=96), MIDDLE, source=box)
    shown = geometry.shown(SIZE)
    white = geometry.apply_maps(np.full((1, shown[3] - shown[1], shown[2] - shown[0]), 255, np.uint8), shown)
    image = geometry.apply(Image.new("RGB", SIZE, "white"))
    for pixels in (white, image):
        assert pixels.shape[1:] == (96, 96)
        assert not pixels[:, : -top - 1].any()
        assert pixels[:, 96 // 2, 96 // 2].all()


def test_all_frames_of_a_clip_share_the_first_ones_square(shards: Path) -> None:
    source = ClipSource(config(shards), 3, 0)
    clip = source.clip(1, 0, 3, 1)
    landmarks = FrameFiles(source.index, clip.video, clip.window.start).content("keypoints")
    assert clip.geometry.source == face.crop_box(landmarks, SIZE)
    assert source.load(Request.span(clip, 0, 3)).labels.shape == (3, 15, 64, 64)


def test_input_lies_in_0_to_1_and_generation_can_change_the_face(shards: Path) -> None:
    plain, other = (ClipSource(config(shards, random_scale_points=on), 3, 0, "test") for on in (False, True))
    drawn = [source.load(Request.span(source.whole(0), 0, 1)).labels for source in (plain, other)]
    assert (drawn[0] != drawn[1]).any()
    values = plain.task.scale(drawn[0], plain.data, torch.float32)
    assert values.min() == 0
    assert 0.9 < values.max() <= 1
    training = [ClipSource(config(shards, random_scale_points=on), 3, 0) for on in (False, True)]
    same = [source.load(Request.span(source.clip(1, 0, 3, 1), 0, 1)).labels for source in training]
    assert (same[0] == same[1]).all()


def test_shards_of_another_task_are_refused(shards: Path) -> None:
    with pytest.raises(UserError, match=r"packed for data\.task=face, not street"):
        ClipSource(DataConfig(shards=str(shards)), 3, 0)


def test_parts_are_cut_as_the_sketch_is(shards: Path) -> None:
    """Nearest neighbours of the labels on the whole frame; what another face is generated from keeps them."""
    source = ClipSource(config(shards), 3, seed=0, split="test")
    clip = source.whole(0)
    frames = source.load(Request.span(clip, 0, 2))
    assert frames.instances is not None
    assert frames.instances.shape == (2, 1, *frames.labels.shape[2:])
    points = face.completed(FrameFiles(source.index, 0, 1).content("keypoints"))
    labels = face.part_labels(points, SIZE)
    assert set(np.unique(labels)) <= set(range(face.N_LABELS))
    expected = clip.geometry.apply_nearest(Image.fromarray(labels))
    np.testing.assert_array_equal(frames.instances[1], expected)
    other = ClipSource(config(shards, random_scale_points=True), 3, seed=0, split="test").load(Request.span(clip, 1, 1))
    assert other.instances is not None
    assert torch.equal(other.instances[0], frames.instances[1])
    assert not torch.equal(other.labels[0], frames.labels[1])


def test_persons_take_turns(tmp_path: Path) -> None:
    """Four videos, four faces."""
    render_toy_faces(tmp_path / "raw", ToyOptions(n_train=4, n_test=1, n_frames=1, width=96, height=72))
    frames = [np.asarray(Image.open(file)).astype(int) for file in sorted((tmp_path / "raw/train_img").glob("*/*"))]
    assert len(frames) == len(PERSONS)
    for a, b in combinations(frames, 2):
        assert np.abs(a - b).mean() > 8
