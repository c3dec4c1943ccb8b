"""A video file becomes raw folders that can be packed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vid2vid_dist.cli.prepare_video import Found, find_edges, pose_finder, scaled_frames, write
from vid2vid_dist.data.folders import scan
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor.video import write_video


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Eight frames of a bright square that moves, 96x64."""
    frames = np.zeros((8, 64, 96, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[20:44, 10 + 6 * i : 34 + 6 * i] = (220, 180, 90)
    write_video(tmp_path / "square.mp4", frames, 10)
    return tmp_path / "square.mp4"


def test_edges_become_labels_that_can_be_packed(video: Path, tmp_path: Path) -> None:
    line = write(video, tmp_path / "raw", find_edges, scaled_frames(video, 48, 1), n_test=3)
    assert line.startswith(f"{tmp_path / 'raw'}: 5 + 3 frames of 8")
    assert (tmp_path / "raw/contact_sheet.png").is_file()
    lines = make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(label_nc=3))
    assert ["5 frames" in lines[0], "3 frames" in lines[1]] == [True, True]


def test_a_gap_begins_a_new_sequence(video: Path, tmp_path: Path) -> None:
    frames = list(scaled_frames(video, 0, 1))

    def find(frame: np.ndarray) -> Found | None:
        return None if frame is frames[3] else find_edges(frame)

    write(video, tmp_path / "raw", find, iter(frames), n_test=0)
    assert [v.n_frames for v in scan(tmp_path / "raw", "train")] == [3, 4]


def test_frames_are_written_as_they_come(tmp_path: Path) -> None:
    """A long video does not have to fit the memory: its first frames are on the disk before its last are decoded."""
    def frames() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for i in range(40):
            written = len(list(tmp_path.glob(".raw.partial/train_B/*/*.png")))
            assert i - 8 <= written <= i
            yield rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)

    write(tmp_path / "long.mp4", tmp_path / "raw", find_edges, frames(), n_test=4)
    assert [v.n_frames for split in ("train", "test") for v in scan(tmp_path / "raw", split)] == [36, 4]


def test_a_video_that_is_shorter_than_its_test_split(video: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of its 8 frames the last 30 are for the test split \(--test-frames\)"):
        write(video, tmp_path / "raw", find_edges, scaled_frames(video, 0, 1), n_test=30)
    assert not (tmp_path / "raw").exists()


def test_what_is_no_video_and_missing_weights_are_said(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"notes\.mp4 is not a video"):
        list(scaled_frames(tmp_path / "notes.mp4", 0, 1))
    with pytest.raises(UserError, match=r"weights|compiled operators"):
        pose_finder(tmp_path / "none.pth")
