"""Bodies: bad files, nobody and two people, what is left out in training, sampling by length."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.tasks import pose
from vid2vid_dist.errors import UserError
from vid2vid_dist.toy.pose import ToyPose, render_toy_pose
from vid2vid_dist.toy.set import ToyOptions

SIZE = (160, 80)
PERSON: dict[str, Any] = next(ToyPose(0, 0, 1, *SIZE).frames()).openpose["people"][0]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy dancer of 2 + 1 videos of 5 frames, 160x80; read only."""
    raw = tmp_path_factory.mktemp("pose") / "raw"
    render_toy_pose(raw, ToyOptions(n_train=2, n_test=1, n_frames=5, width=160, height=80))
    return raw


@pytest.fixture(scope="module")
def shards(raw: Path) -> Path:
    make_shards(raw, raw.parent / "shards", PackOptions(task="pose"))
    return raw.parent / "shards"


def source(shards: Path, split: str = "train", **options: Any) -> ClipSource:
    data = DataConfig(shards=str(shards), task="pose", label_nc=0, resize_or_crop="scaleHeight", loadSize=64)
    data.input_nc = 6
    for name, value in options.items():
        setattr(data, name, value)
    return ClipSource(data, 3, 0, split)


def people(*entries: dict[str, Any]) -> list[pose.Person]:
    return pose.parse_people(json.dumps({"people": entries}).encode(), "frame.json")


def drawn(found: list[pose.Person]) -> np.ndarray:
    return pose.draw_people(found, SIZE, [pose.NOTHING_DROPPED] * len(found), 0.0, basic=False)


def test_nobody_is_black_and_two_people_are_added() -> None:
    assert not drawn(people()).any()
    moved = PERSON | {"pose_keypoints_2d": [v + 50 * (i % 3 == 0) for i, v in enumerate(PERSON["pose_keypoints_2d"])]}
    alone = [drawn(people(entry)) for entry in (PERSON, moved)]
    assert (drawn(people(PERSON, moved)) == alone[0] + alone[1]).all()


def test_hands_and_face_may_be_missing() -> None:
    bare = drawn(people({"pose_keypoints_2d": PERSON["pose_keypoints_2d"], "face_keypoints_2d": []}))
    assert bare.any()
    assert (bare != drawn(people(PERSON))).any()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (json.dumps({"people": [PERSON]})[:200], "not a whole JSON file"),
        ("{}", "not a whole JSON file of OpenPose"),
        (json.dumps({"people": [{"pose_keypoints_2d": [0.0] * 54}]}), "54 numbers, expected 75 .*: run OpenPose with"),
        (json.dumps({"people": [{"pose_keypoints_2d": [0.5] * 75}]}), r"lie in -1\.\.1: .* run OpenPose with --key"),
        (json.dumps({"people": [{"pose_keypoints_2d": [500] * 75}]}), "further from the frame of 160x80"),
        (json.dumps({"people": [{"pose_keypoints_2d": [float("nan")] * 75}]}), "not a whole JSON file"),
        (json.dumps({"people": [{"pose_keypoints_2d": [1e9] * 75}]}), "a number of 65536 or more"),
    ],
    ids=["cut short", "no people", "other model", "no pixels", "other frames", "nan", "far away"],
)
def test_bad_poses_are_refused(data: str, words: str) -> None:
    with pytest.raises(UserError, match=f"frame.json: .*{words}"):
        pose.parse_people(data.encode(), "frame.json", SIZE)


def test_a_byte_order_mark_is_read() -> None:
    assert len(pose.parse_people(b"\xef\xbb\xbf" + json.dumps({"people": [PERSON]}).encode(), "frame.json", SIZE)) == 1


def test_densepose_of_another_size_and_foreign_parts_are_refused(tmp_path: Path) -> None:
    render_toy_pose(tmp_path / "raw", ToyOptions(n_train=1, n_test=1, n_frames=3, width=160, height=80))
    file = tmp_path / "raw/train_densepose/pose0000/frame000001.png"
    Image.new("RGB", (80, 40)).save(file)
    with pytest.raises(UserError, match=r"frame000001\.png: size 80x40 differs from .*160x80"):
        make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(task="pose"))
    Image.new("RGB", SIZE, (0, 0, 25)).save(file)
    with pytest.raises(UserError, match=r"frame000001\.png: body part 25"):
        make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(task="pose"))


def test_either_alone_gives_its_half_of_both(shards: Path) -> None:
    both, dense, lines = (
        s.load(Request.span(s.whole(0), 0, 2)).labels for s in (
            source(shards, "test"), source(shards, "test", densepose_only=True, input_nc=3),
            source(shards, "test", openpose_only=True, input_nc=3)))
    assert both.shape == (2, 6, 64, 64)
    assert (torch.cat([dense, lines], dim=1) == both).all()


def test_part_numbers_are_spread_over_the_range(shards: Path) -> None:
    test = source(shards, "test")
    frames = test.load(Request.span(test.whole(0), 0, 1))
    values = test.task.scale(frames.labels, test.data, torch.float32)
    assert values[:, 2].min() == -1
    assert values[:, 2].max() == frames.labels[:, 2].max() / 12 - 1


def test_what_is_left_out_in_training_is_a_function_of_epoch_clip_and_frame(shards: Path) -> None:
    train = source(shards, random_drop_prob=0.5)
    clip = train.clip(1, 0, 3, 1)
    together = train.load(Request.span(clip, 0, 3)).labels
    alone = torch.cat([train.load(Request(clip, [i], [])).labels for i in range(3)])
    assert (together == alone).all()
    whole = train.load(Request.span(train.whole(clip.video), clip.window.start, 3)).labels
    for mine, all_parts in zip(together[:, 2], whole[:, 2], strict=True):
        assert set(mine.unique().tolist()) < set(all_parts.unique().tolist())


def test_heads_are_hidden_in_training_only(shards: Path) -> None:
    train = source(shards, remove_face_labels=True)
    clip = train.clip(1, 0, 3, 1)
    hidden, shown = (train.load(Request.span(c, 0, 3)).labels[:, 2] for c in (clip, train.whole(clip.video)))
    assert not (hidden > 22).any()
    assert (shown > 22).any()


def test_long_videos_are_drawn_more_often(tmp_path: Path, raw: Path) -> None:
    """An epoch has a clip for every frame that can be generated; which video it is of, chance decides by length."""
    for modality in ("img", "densepose", "openpose"):
        for video, n in (("long", 5), ("short", 3)):
            folder = tmp_path / f"raw/train_{modality}/{video}"
            folder.mkdir(parents=True)
            for file in sorted((raw / f"train_{modality}/pose0000").iterdir())[:n]:
                (folder / file.name).write_bytes(file.read_bytes())
    make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(task="pose"))
    train = source(tmp_path / "shards")
    assert (train.n_clips, train.n_videos) == (3 + 1, 2)
    clips = [train.clip(epoch, number, 1, 1) for epoch in range(200) for number in range(train.n_clips)]
    for epoch in range(20):
        cut = [train.clip(epoch, number, 2, 1).n_chunks for number in range(train.n_clips)]
        assert train.n_chunks(epoch, 2, 1).tolist() == cut
    counts = Counter(clip.name for clip in clips)
    assert 0.7 < counts["long"] / len(clips) < 0.8
    assert {(i % train.n_clips % 3, clip.window.start) for i, clip in enumerate(clips) if clip.name == "long"} == {
        (0, 0), (1, 1), (2, 2)}


def test_too_narrow_frames_are_refused(shards: Path) -> None:
    with pytest.raises(UserError, match="bodies need at least 128"):
        source(shards, loadSize=32).whole(0)
