"""The raw layout: what is a video, and what does not match."""

import shutil
from collections.abc import Iterable
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
        ("train_inst/b", r"train_A/b has no partner: .*train_inst has no folder .*1, .*train_A 2"),
        ("train_B/b/b.frame003.jpg", r"train_A/b/b\.frame003\.png has no partner in .*train_B/b.*6 and 5 frames"),
        ("train_A/b/b.frame003.png", r"train_B/b/b\.frame003\.jpg has no partner in .*train_A/b.*6 and 5 frames"),
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


def frames(root: Path, names: Iterable[str]) -> None:
    """Files that need not be pictures yet."""
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).touch()


def names(root: Path, split_at_jumps: bool = False) -> list[list[str]]:
    """Stems of the frames, video by video."""
    return [[path.stem for path in video.first] for video in scan(root, "test", split_at_jumps=split_at_jumps)]


def test_numbers_sort_as_numbers_in_folders_and_files(tmp_path: Path) -> None:
    for i in (10, 9):
        frames(tmp_path / f"test_A/seq{i}", [f"f{n}.png" for n in (100, 9, 10)])
    assert [video.name for video in scan(tmp_path, "test")] == ["seq9", "seq10"]
    assert names(tmp_path) == [["f9", "f10", "f100"]] * 2


@pytest.mark.parametrize(
    ("label", "image"),
    [
        ("{n}_label", "{n}"),
        ("{n:06d}", "frame{n}"),
        ("stuttgart_00_000000_{n:06d}_gtFine_labelTrainIds", "stuttgart_00_000000_{n:06d}_leftImg8bit"),
        ("v2_{n}", "v3_{n}_of_12"),
        ("a_{c}_{n}", "b_{c}_{n}_x"),
    ],
)
def test_partners_agree_in_what_tells_frames_apart(tmp_path: Path, label: str, image: str) -> None:
    for folder, name in (("A", label), ("B", image)):
        frames(tmp_path / f"test_{folder}/s", [name.format(n=n, c=n // 7) + ".png" for n in (3, 5, 7, 9, 11)])
    (video,) = scan(tmp_path, "test")
    for n, a, b in zip((3, 5, 7, 9, 11), video.files["labels"], video.files["images"], strict=True):
        assert (a.stem, b.stem) == tuple(name.format(n=n, c=n // 7) for name in (label, image))


@pytest.mark.parametrize(
    ("labels", "images", "words"),
    [
        (["0", "1"], ["1", "2"], r"test_A/s/0\.png has no partner in .*test_B/s, where 1\.png stands"),
        (["5"], ["7"], r"5\.png has no partner"),
        (["a", "b"], ["a", "c"], r"b\.png has no partner"),
        (["1.25", "1.5"], ["1.25", "1.5"], r"1\.5\.png and 1\.25\.png: .*as many digits"),
        (["f-1", "f0"], ["f-1", "f0"], r"f-1\.png: is its number below 0"),
        (["01", "1"], ["01", "1"], r"01\.png and 1\.png have one number"),
        (["1", "2_3"], ["1_b", "2_3_b"], r"1\.png has no partner"),
    ],
)
def test_what_cannot_be_paired_or_ordered_is_refused(tmp_path: Path, labels: list[str], images: list[str],
                                                     words: str) -> None:
    for folder, stems in (("A", labels), ("B", images)):
        frames(tmp_path / f"test_{folder}/s", [f"{stem}.png" for stem in stems])
    with pytest.raises(UserError, match=words):
        scan(tmp_path, "test")


def test_a_single_frame_is_paired_by_its_numbers(tmp_path: Path) -> None:
    frames(tmp_path / "test_A/s", ["aachen_000000_000019_gtFine_labelIds.png"])
    frames(tmp_path / "test_B/s", ["aachen_000000_000019_leftImg8bit.png"])
    assert len(scan(tmp_path, "test")) == 1


def test_folders_need_one_name(tmp_path: Path) -> None:
    frames(tmp_path / "test_A/walk", ["0.png"])
    frames(tmp_path / "test_B/run", ["0.png"])
    with pytest.raises(UserError, match=r"test_A/walk has no partner: .*test_B has no folder"):
        scan(tmp_path, "test")


def test_jumps_are_warned_of_or_split_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames(tmp_path / "test_A/s", [f"x_{n}.png" for n in (0, 5, 10, 40, 45, 50, 55)])
    assert names(tmp_path) == [["x_0", "x_5", "x_10", "x_40", "x_45", "x_50", "x_55"]]
    assert "jump in 1 places, first from" in caplog.text
    assert "x_10.png to x_40.png" in caplog.text
    parts = scan(tmp_path, "test", split_at_jumps=True)
    assert [(part.name, part.n_frames) for part in parts] == [("s/x_0", 3), ("s/x_40", 4)]


@pytest.mark.parametrize("stems", [
    [f"{n:04d}" for n in range(9)], [f"{i}_{1000 + 37 * i + i % 3}" for i in range(9)], ["left", "right", "up"]])
def test_what_is_no_jump(tmp_path: Path, caplog: pytest.LogCaptureFixture, stems: list[str]) -> None:
    frames(tmp_path / "test_A/s", [f"{stem}.png" for stem in stems])
    assert names(tmp_path, split_at_jumps=True) == [stems]
    assert not caplog.text


def test_hidden_files_and_what_servers_leave_are_skipped(tmp_path: Path) -> None:
    frames(tmp_path / "test_A/s", ["0.png", "1.PNG", "2.tif", "._0.png", ".DS_Store", "Thumbs.db", "desktop.ini"])
    for folder in (".ipynb_checkpoints", ".thumbs", "@eaDir/0.png", "__MACOSX"):
        frames(tmp_path / "test_A/s" / folder, ["0.jpg"])
    assert names(tmp_path) == [["0", "1", "2"]]


@pytest.mark.parametrize("name", ["2.gif", "2.EXR", "clip.avi", "2.heic"])
def test_pictures_that_are_not_read_are_refused(tmp_path: Path, name: str) -> None:
    frames(tmp_path / "test_A/s", ["0.png", "1.png", name])
    with pytest.raises(UserError, match=rf"{name}: .* is not read: store frames as \.png"):
        scan(tmp_path, "test")


def test_links_are_followed_and_a_loop_is_refused(tmp_path: Path) -> None:
    frames(tmp_path / "elsewhere", ["0.png", "1.png"])
    (tmp_path / "test_A").mkdir()
    for link in "ab":
        (tmp_path / f"test_A/{link}").symlink_to(tmp_path / "elsewhere")
    assert [video.name for video in scan(tmp_path, "test")] == ["a", "b"]
    (tmp_path / "elsewhere/up").symlink_to(tmp_path / "test_A")
    with pytest.raises(UserError, match="is a link to a folder that it lies in"):
        scan(tmp_path, "test")
    (tmp_path / "elsewhere/up").unlink()
    (tmp_path / "elsewhere/2.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"2\.png is a link that leads nowhere"):
        scan(tmp_path, "test")
