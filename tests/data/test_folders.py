"""The raw layout: what is a video, and what does not match."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.data.conftest import save
from vid2vid_dist.data.folders import scan
from vid2vid_dist.errors import UserError


def test_videos_and_frames_are_sorted(raw: Path) -> None:
    videos = scan(raw, "train")
    assert [(v.name, v.n_frames) for v in videos] == [("a", 4), ("b", 6)]
    assert list(videos[0].files) == ["labels", "images", "instances"]
    assert [p.name for p in videos[0].files["images"]] == [f"a.frame{i:03d}.jpg" for i in range(4)]


def test_any_depth_and_the_root_itself(tmp_path: Path) -> None:
    for name in ("x.png", "deep/er/x.png", "deep/x.png", "deep/notes.npy", "empty/readme.md"):
        save(tmp_path / "test_A" / name, np.zeros((8, 8), np.uint8)) if name.endswith("png") else None
    (tmp_path / "test_A/empty").mkdir()
    (tmp_path / "test_A/empty/readme.md").write_text("no frame")
    assert [v.name for v in scan(tmp_path, "test")] == ["test_A", "deep", "deep/er"]


def test_no_folder_is_no_split(raw: Path) -> None:
    assert scan(raw, "test") == []


@pytest.mark.parametrize(
    ("remove", "words"),
    [
        ("train_B", "no images found"),
        ("train_A", "no labels found"),
        ("train_inst/b", r"train_inst has 1 videos but .*train_A has 2"),
        ("train_B/b/b.frame003.jpg", r"train_B/b has 5 frames but .*train_A/b has 6"),
    ],
)
def test_modalities_must_match(raw: Path, remove: str, words: str) -> None:
    path = raw / remove
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=words):
        scan(raw, "train")


def test_test_split_needs_no_images(raw: Path) -> None:
    (raw / "train_A").rename(raw / "test_A")
    assert [v.n_frames for v in scan(raw, "test")] == [4, 6]
