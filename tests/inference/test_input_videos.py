"""Shards, folders and video files as input: the same frames by every way, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.input_videos import Input, Video, open_input
from vid2vid_dist.monitor.video import write_video
from vid2vid_dist.toy.face import render_toy_face
from vid2vid_dist.toy.set import ToyOptions

SPANS = [range(1, 3), range(3, 4), range(4, 5)]


def same_frames(a: Input, b: Input, video_of_a: int, video_of_b: int) -> bool:
    pairs = list(zip(a.read(video_of_a, SPANS), b.read(video_of_b, SPANS), strict=True))
    assert len(pairs) == len(SPANS)
    return all(torch.equal(x.labels, y.labels) and x.names == y.names for x, y in pairs)


@pytest.fixture
def trained_on(cfg: Config, tmp_path: Path) -> Input:
    return open_input(None, cfg, "test", tmp_path / "work")


def test_shards(cfg: Config, shards: Path, trained_on: Input, tmp_path: Path) -> None:
    assert trained_on.videos == [Video("a & b", 5, (64, 32)), Video("park", 7, (64, 32))]
    assert trained_on.has_images
    for path in (shards / "blind", shards / "blind/test"):
        blind = open_input(path, cfg, "test", tmp_path / "work")
        assert not blind.has_images
        assert same_frames(blind, trained_on, 0, 0)
        assert blind.identity != trained_on.identity


def test_folders(cfg: Config, shards: Path, trained_on: Input, tmp_path: Path) -> None:
    """The raw layout, a folder of videos, and a folder of frames; the last two have no instance maps."""
    raw = open_input(shards / "raw_blind", cfg, "test", tmp_path / "work")
    assert raw.where == str(shards / "raw_blind")
    assert same_frames(raw, trained_on, 1, 1)
    cfg.data.use_instance = False
    videos = open_input(shards / "raw_blind/test_A", cfg, "test", tmp_path / "work2")
    assert [video.name for video in videos.videos] == ["a & b", "park"]
    assert same_frames(videos, trained_on, 1, 1)
    frames = open_input(shards / "raw_blind/test_A/park", cfg, "test", tmp_path / "work3")
    assert [video.name for video in frames.videos] == ["park"]
    assert same_frames(frames, trained_on, 0, 1)
    again = open_input(shards / "raw_blind/test_A/park", cfg, "test", tmp_path / "work3")
    assert again.identity == frames.identity


def test_a_folder_of_faces(cfg: Config, tmp_path: Path) -> None:
    render_toy_face(tmp_path / "raw", ToyOptions(n_train=0, n_test=1, n_frames=5, width=128, height=96))
    cfg.data.task, cfg.data.label_nc, cfg.data.input_nc, cfg.data.use_instance = "face", 0, 15, False
    source = open_input(tmp_path / "raw", cfg, "test", tmp_path / "work")
    assert source.videos == [Video("face0000", 5, (64, 64))]
    assert [len(frames.labels) for frames in source.read(0, SPANS)] == [2, 1, 1]
    with pytest.raises(UserError, match="reads a folder with test_img/, test_keypoints/ in it"):
        open_input(tmp_path / "raw/test_keypoints", cfg, "test", tmp_path / "work2")


def video_file(cfg: Config, tmp_path: Path) -> Path:
    """Six frames of grey levels 0, 40, 80, ..."""
    cfg.data.label_nc, cfg.data.use_instance, cfg.generator.fg = 0, False, False
    write_video(tmp_path / "ride.mp4", [np.full((32, 64, 3), 40 * t, np.uint8) for t in range(6)], 10)
    return tmp_path / "ride.mp4"


def test_a_video_file_is_read_frame_by_frame(cfg: Config, tmp_path: Path) -> None:
    source = open_input(video_file(cfg, tmp_path), cfg, "test", tmp_path / "work")
    assert (source.videos, source.has_images) == ([Video("ride", 6, (64, 32))], False)
    frames = list(source.read(0, SPANS))
    assert [f.names for f in frames] == [["000001", "000002"], ["000003"], ["000004"]]
    levels = [level for f in frames for level in f.labels.float().mean(dim=(1, 2, 3)).tolist()]
    assert levels == pytest.approx([40, 80, 120, 160], abs=3)
    assert frames[0].labels.shape == (2, 3, 32, 64)
    cfg.data.loadSize = 128
    (larger,) = open_input(tmp_path / "ride.mp4", cfg, "test", tmp_path / "work").read(0, [range(1)])
    assert larger.labels.shape == (1, 3, 64, 128)


def test_a_video_file_that_was_cut_short(cfg: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its header, at the beginning, still promises all frames; the video ends where its stream does."""
    file = video_file(cfg, tmp_path)
    file.write_bytes(file.read_bytes()[:-8])
    source = open_input(file, cfg, "test", tmp_path / "work")
    n_frames = source.videos[0].n_frames
    assert 1 < n_frames < 6
    assert f"{n_frames} frames can be decoded, its header counts 6" in caplog.text
    one_by_one = [range(i, i + 1) for i in range(n_frames)]
    assert [len(frames.labels) for frames in source.read(0, one_by_one)] == [1] * n_frames


def test_what_is_no_input(cfg: Config, shards: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    with pytest.raises(UserError, match="no such file or folder"):
        open_input(tmp_path / "nowhere", cfg, "test", work)
    (tmp_path / "any.mp4").touch()
    with pytest.raises(UserError, match="holds colours, but this model reads other input"):
        open_input(tmp_path / "any.mp4", cfg, "test", work)
    with pytest.raises(UserError, match=r"test_A has no instance ids, .* with test_A/ and test_inst/ in it"):
        open_input(shards / "raw_blind/test_A", cfg, "test", work)
    cfg.data.label_nc, cfg.data.use_instance = 2, False
    with pytest.raises(UserError, match=r"label id \d.* is not below label_nc=2"):
        open_input(shards / "raw_blind/test_A", cfg, "test", work)
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(UserError, match=r"empty holds nothing: .* reads a folder with test_A/.*one video file"):
        open_input(folder, cfg, "test", work)
    video_file(cfg, tmp_path)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((tmp_path / "ride.mp4").read_bytes()[:100])
    with pytest.raises(UserError, match=r"broken\.mp4 is not a video that can be read"):
        open_input(broken, cfg, "test", work)
    picture = tmp_path / "frames/000.png"
    picture.parent.mkdir()
    Image.new("RGB", (64, 32)).save(picture)
    for number in (1, 2):
        shutil.copy(picture, picture.with_name(f"{number:03d}.png"))
    assert open_input(picture.parent, cfg, "test", work).videos[0].n_frames == 3


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (64, 32)).save(path)
    return path


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train/index.json", "train/contact_sheet.png"], r"holds shards of train, not of test: --split train"),
        (["train_A/s/0.png", "contact_sheet.png"], "holds frames of train, not of test: --split train"),
        (["test_img/s/0.png", "test_keypoints/s/0.txt"], r"holds test_img/, test_keypoints/: a model .* test_A/"),
        (["0.png", "1.png", "contact_sheet.png"], r"contact_sheet\.png is a contact sheet, no frame"),
        (["0.png", "1.png", "more/0.png"], r"holds frames \(0\.png, 1\.png, more/\) and folders of frames"),
        (["clips/a.mp4", "notes.txt"], r"holds clips/, notes\.txt: .* or one video file"),
        (["config.yaml", "checkpoints/latest"], r"holds checkpoints/, config\.yaml: a model"),
    ],
)
def test_an_input_is_never_guessed(cfg: Config, tmp_path: Path, files: list[str], words: str) -> None:
    for name in files:
        path = save(tmp_path / "input" / name) if name.endswith("png") else tmp_path / "input" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(UserError, match=words):
        open_input(tmp_path / "input", cfg, "test", tmp_path / "work")


def test_a_picture_is_no_input(cfg: Config, tmp_path: Path) -> None:
    cfg.data.label_nc, cfg.data.use_instance = 0, False
    with pytest.raises(UserError, match=r"sheet\.png is a picture: .* --first image:FILE"):
        open_input(save(tmp_path / "sheet.png"), cfg, "test", tmp_path / "work")
