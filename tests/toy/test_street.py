"""The toy street: it holds a street, and its flow is exact."""

import time
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from vid2vid_dist.data.folders import scan
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.flow import DisFlow
from vid2vid_dist.models.warp import warp
from vid2vid_dist.toy import street as toy_street
from vid2vid_dist.toy.layout import CAR_ID, ROAD_ID, SKY_ID, TREE_ID
from vid2vid_dist.toy.paint import PALETTES
from vid2vid_dist.toy.scene import SKY, cast
from vid2vid_dist.toy.street import (
    ToyFrame,
    ToyOptions,
    ToyStreet,
    ensure_toy_shards,
    render_toy_street,
    render_toy_styles,
)

SEEDS = (0, 3)


@pytest.fixture(scope="module")
def streets() -> list[list[ToyFrame]]:
    return [list(ToyStreet(seed, n_frames=4).frames()) for seed in SEEDS]


@pytest.fixture(scope="module")
def pairs(streets: list[list[ToyFrame]]) -> list[tuple[ToyFrame, ToyFrame]]:
    """(previous, current) frames."""
    return [pair for frames in streets for pair in pairwise(frames)]


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1)).double()[None]


def test_frames_hold_a_street(streets: list[list[ToyFrame]]) -> None:
    for frames in streets:
        for frame in frames:
            shares = np.bincount(frame.labels.ravel(), minlength=35) / frame.labels.size
            assert shares[[7, 8, 11, 17, 21, 23, 26]].sum() == 1
            assert shares[ROAD_ID] > 0.15
            assert shares[11] > 0.1
            assert frame.labels[-1, 100] == ROAD_ID
            assert shares[SKY_ID] > 0.03
            assert frame.image.std() > 30


def test_cars_have_instances_and_all_else_its_label(streets: list[list[ToyFrame]]) -> None:
    for frames in streets:
        cars = frames[0].labels == CAR_ID
        ids = np.unique(frames[0].instances[cars])
        assert len(ids) > 2
        assert (ids // 1000 == CAR_ID).all()
        np.testing.assert_array_equal(frames[0].instances[~cars], frames[0].labels[~cars])


def test_flow_leads_to_the_same_point_of_the_same_surface() -> None:
    """Rays of the previous frame through the flow's ends meet the surface points, moved back one frame."""
    street = ToyStreet(3, n_frames=3)
    frame = list(street.frames())[2]
    v, u = (grid[frame.valid] for grid in np.mgrid[0 : street.height, 0 : street.width].astype(float))
    du, dv = frame.flow[:, frame.valid].astype(float)
    now = cast(street.solids, street.camera(2), 2, u, v)
    before = cast(street.solids, street.camera(1), 1, u + du, v + dv)
    np.testing.assert_array_equal(now.solid, before.solid)
    sky = now.solid == SKY
    speed = np.array([solid.speed for solid in street.solids] + [0, 0])[now.solid]
    points = [
        street.camera(i).position[:, None] + np.where(sky, 1.0, hits.depth) * street.camera(i).rays(*pixel)
        for i, hits, pixel in ((2, now, (u, v)), (1, before, (u + du, v + dv)))
    ]
    points[0][2] -= speed
    error = np.abs(points[0] - points[1])[:, ~sky].max(0) / now.depth[~sky]
    assert error.max() < 1e-4
    assert frame.valid.mean() > 0.8
    assert sky.any()


def test_flow_warps_the_previous_frame_onto_the_current(pairs: list[tuple[ToyFrame, ToyFrame]]) -> None:
    """About 2 grey levels of 255 are left by interpolation; without flow it is 6, against it 9."""
    for before, now in pairs:
        flow = torch.from_numpy(now.flow)[None].double()
        errors = [
            float(
                (warp(tensor(before.image), sign * flow) - tensor(now.image))
                .abs()
                .mean(1)[0]
                .numpy()[now.valid]
                .mean()
            )
            for sign in (1, 0, -1)
        ]
        assert errors[0] < 3
        assert errors[0] < 0.5 * errors[1] < 0.5 * errors[2]


def test_dis_finds_the_same_flow(pairs: list[tuple[ToyFrame, ToyFrame]]) -> None:
    for before, now in pairs:
        images = [(tensor(frame.image) / 127.5 - 1).float() for frame in (now, before)]
        found = DisFlow()(*images)[0].numpy()
        moving = now.valid & (np.hypot(*now.flow) > 1)
        size, true_size = (np.hypot(*flow)[moving] for flow in (found, now.flow))
        cosine = (found * now.flow).sum(0)[moving] / np.maximum(size * true_size, 1e-9)
        assert np.median(cosine) > 0.99
        assert 0.75 < np.median(size / true_size) < 1.1
        assert np.median(np.hypot(*(found - now.flow))[now.valid]) < 0.6


def test_first_frame_has_no_flow(streets: list[list[ToyFrame]]) -> None:
    assert not streets[0][0].valid.any()
    assert not streets[0][0].flow.any()


def test_seed_decides() -> None:
    first, same, other = (next(ToyStreet(seed, 1, 64, 32).frames()) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, same.image)
    np.testing.assert_array_equal(first.instances, same.instances)
    assert (first.image != other.image).mean() > 0.5


def test_raw_folders(toy_raw: Path) -> None:
    videos = scan(toy_raw, "train")
    assert [(video.name, video.n_frames) for video in videos] == [(f"street{i:04d}", 8) for i in range(3)]
    assert list(videos[0].files) == ["labels", "images", "instances"]
    frames = list(ToyStreet(1, 8, 64, 32).frames())
    np.testing.assert_array_equal(cv2.imread(str(videos[1].files["images"][5]))[..., ::-1], frames[5].image)
    assert cv2.imread(str(videos[1].files["instances"][5]), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_rendering_twice_does_nothing_and_never_overwrites(toy_raw: Path, tmp_path: Path) -> None:
    options = ToyOptions(n_train=3, n_test=1, n_frames=8, width=64, height=32)
    assert render_toy_street(toy_raw, options) == f"{toy_raw}: up to date"
    with pytest.raises(UserError, match="is not this toy street"):
        render_toy_street(toy_raw, ToyOptions(n_train=4))
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is not this toy street"):
        render_toy_street(tmp_path / "mine", options)


def test_ensure_makes_missing_shards_once(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str]) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich: this is a terminal
    small = ToyOptions(n_train=1, n_test=1, n_frames=3, width=64, height=32)
    monkeypatch.setattr(toy_street, "ToyOptions", lambda: small)
    lines = ensure_toy_shards(tmp_path / "shards", tmp_path / "raw")
    assert len(lines) == 3
    assert f"rendering the toy street into {tmp_path}/raw" in caplog.text
    assert "rendering" in capsys.readouterr().err, "a bar"
    assert (tmp_path / "shards/test/index.json").is_file()
    assert ensure_toy_shards(tmp_path / "shards", tmp_path / "raw") == []


def test_interrupted_rendering_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(toy_street, "_write_frame", interrupt)
    with pytest.raises(KeyboardInterrupt):
        render_toy_street(tmp_path / "raw", ToyOptions(n_train=1, n_test=0, n_frames=1, width=64, height=32))
    assert list(tmp_path.iterdir()) == []


def test_default_set_is_quick() -> None:
    """300 frames of 256x128 are to take less than 40 s of one core."""
    frames = ToyStreet(0, n_frames=6).frames()
    next(frames)
    start = time.process_time()
    assert len(list(frames)) == 5
    assert (
        time.process_time() - start
    ) / 5 < 0.3  # about 0.09; loaded machines and coverage tools are slower


def test_looks_differ_where_labels_do_not() -> None:
    """The same street in every palette: one set of labels, pictures far apart. The first palette is the plain set's."""
    frames = [next(ToyStreet(3, n_frames=1, width=64, height=32, palette=palette).frames()) for palette in PALETTES]
    plain = next(ToyStreet(3, n_frames=1, width=64, height=32).frames())
    np.testing.assert_array_equal(frames[0].image, plain.image)
    for frame in frames:
        np.testing.assert_array_equal(frame.labels, plain.labels)
    for a, b in combinations(frames, 2):
        for label in (ROAD_ID, SKY_ID, TREE_ID):
            here = plain.labels == label
            assert np.abs(a.image[here].mean(0) - b.image[here].mean(0)).max() > 12, label


def test_videos_of_the_styles_set_take_turns(tmp_path: Path) -> None:
    render_toy_styles(tmp_path / "raw", ToyOptions(n_train=4, n_test=1, n_frames=1, width=64, height=32, seed=5))
    images = [video.files["images"][0] for video in scan(tmp_path / "raw", "train")]
    expected = [next(ToyStreet(5 + i, 1, 64, 32, palette).frames()) for i, palette in enumerate(PALETTES)]
    for file, frame in zip(images, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(file)), frame.image)
    assert "up to date" in render_toy_styles(tmp_path / "raw", ToyOptions(4, 1, 1, 64, 32, 5))
