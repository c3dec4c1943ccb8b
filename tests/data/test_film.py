"""Video files inside shards: every frame is the one that decoding from the start gives, however it is reached."""

import json
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.damage import tar_of
from tests.data.servers import range_server
from tests.data.test_video_file import ONE, patch, write
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data import film, packing
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.inputs import FrameFiles
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.store import open_store
from vid2vid_dist.data.video_file import frames_of
from vid2vid_dist.errors import UserError

N = 40
X264 = {"bf": "2", "g": "8", "crf": "12"}


def write_labels(folder: Path, n: int = N, size: tuple[int, int] = (96, 64)) -> None:
    folder.mkdir(parents=True)
    for i in range(n):
        Image.new("L", size, i % 20).save(folder / f"frame_{i}.png")


def write_set(root: Path, codec: str = "libx264", ending: str = ".mp4", **options: object) -> Path:
    """Label maps of a video `a`, and its frames as a file; gives the file."""
    write_labels(root / "train_A/a", size=(options.get("width", 96), options.get("height", 64)))
    (root / "train_B").mkdir()
    settings = {"n": N, "options": X264 if codec == "libx264" else {"g": "8"}, **options}
    return write(root / f"train_B/a{ending}", codec, **settings)


def pack(raw: Path, **options: object) -> ShardIndex:
    make_shards(raw, raw.parent / "out", PackOptions(label_nc=35, **options))
    return ShardIndex(raw.parent / "out/train")


def read(index: ShardIndex, i: int, video: int = 0) -> np.ndarray:
    return np.asarray(FrameFiles(index, video, i).picture("images"))


@pytest.mark.parametrize(("codec", "ending", "options"), [
    ("libx264", ".mp4", {}),
    ("libx264", ".mkv", {"options": {**X264, "x264-params": "open-gop=1"}}),
    ("libx264", ".mp4", {"pts": lambda i: i * 40 + (i % 3) * 11, "options": X264}),
    ("libx264", ".mp4", {"pixels": "yuv420p10le", "sound": True}),
    ("libx265", ".MP4", {"options": {"x265-params": "keyint=8:log-level=none"}}),
    ("mpeg4", ".mp4", {"options": {"g": "8", "bf": "1"}}),
    ("mjpeg", ".mov", {"pixels": "yuvj420p"}),
    ("libvpx-vp9", ".webm", {}),
], ids=["B frames", "open groups", "variable rate", "10 bit and sound", "h265", "mpeg4", "all keyframes", "vp9"])
def test_every_frame_in_any_order_is_that_from_the_start(tmp_path: Path, codec: str, ending: str, options: dict,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "BLOCK", 1000)
    expected = list(frames_of(write_set(tmp_path / "raw", codec, ending, **options)))
    index = pack(tmp_path / "raw")
    assert len(expected) == index.lengths[0] == N
    starts = index.film(0, "images").films["start"]
    assert len({*starts.tolist()}) >= 4, "decoding begins at keyframes"
    assert (starts <= np.arange(N)).all()
    order = [*range(N)] * 3
    random.Random(0).shuffle(order)
    with ThreadPoolExecutor(3) as pool:
        for i, pixels in zip(order, pool.map(lambda i: read(index, i), order), strict=True):
            np.testing.assert_array_equal(pixels, expected[i])
    assert [*index.videos[0].frames] == [f"frame_{i}" for i in range(N)]


def test_time_stamps_that_tell_nothing_are_done_without(tmp_path: Path) -> None:
    file = write_set(tmp_path / "raw", "mpeg4")
    patch(file, b"stts", 4, 1, N, 0)
    with av.open(str(file)) as container:
        assert len({frame.pts for frame in container.decode(video=0)}) < N
    expected, index = list(frames_of(file)), pack(tmp_path / "raw")
    assert not index.film(0, "images").films["start"].any()
    for i in (30, 3, 17):
        np.testing.assert_array_equal(read(index, i), expected[i])


def test_a_phone_held_upright(tmp_path: Path) -> None:
    write_labels(tmp_path / "raw/train_A/a", size=(64, 96))
    (tmp_path / "raw/train_B").mkdir()
    file = write(tmp_path / "raw/train_B/a.mp4", "libx264", n=N, options=X264)
    patch(file, b"tkhd", 40, 0, ONE, 0, -ONE, 0, 0)
    expected, index = list(frames_of(file)), pack(tmp_path / "raw")
    assert expected[0].shape == (96, 64, 3)
    np.testing.assert_array_equal(read(index, 21), expected[21])
    assert index.videos[0].size == (64, 96)


def test_clips_are_those_of_the_same_frames_as_pictures(tmp_path: Path) -> None:
    """And files and folders lie side by side, in one set and its tars."""
    file = write_set(tmp_path / "raw")
    for name in ("b", "c"):
        write_labels(tmp_path / f"raw/train_A/{name}", 12)
        (tmp_path / f"raw/train_B/{name}").mkdir()
    shutil.copytree(tmp_path / "raw", tmp_path / "pictures")
    (tmp_path / "pictures/train_B/a.mp4").unlink()
    (tmp_path / "pictures/train_B/a").mkdir()
    for i, pixels in enumerate(frames_of(file)):
        Image.fromarray(pixels).save(tmp_path / f"pictures/train_B/a/{i}.png")
        for root in ("raw", "pictures"):
            for name in ("b", "c")[: 2 * (i < 12)]:
                Image.fromarray(pixels[::-1]).save(tmp_path / f"{root}/train_B/{name}/{i}.png")
    sources = []
    for raw in ("raw", "pictures"):
        make_shards(tmp_path / raw, tmp_path / f"shards_{raw}", PackOptions(), workers=2)
        data = DataConfig(shards=str(tmp_path / f"shards_{raw}"), loadSize=64, max_t_step=3)
        sources.append(ClipSource(data, n_frames_G=3, seed=0))
    versions = [json.loads((tmp_path / f"shards_{raw}/train/index.json").read_text())["version"]
                for raw in ("raw", "pictures")]
    assert versions == [3, 2], "sets of pictures alone are read by earlier programs too"
    for number in range(sources[0].n_clips):
        for epoch in range(3):
            one, two = (source.load(Request.span(clip, 0, clip.n_frames)) for source in sources
                        for clip in [source.clip(epoch, number, 6, 2)])
            assert torch.equal(one.images, two.images)
            assert torch.equal(one.labels, two.labels)


def test_a_model_of_colours_reads_two_files(tmp_path: Path) -> None:
    for folder in ("train_A", "train_B"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        write(tmp_path / "raw" / folder / "a.mp4", "libx264", n=N, options=X264)
    make_shards(tmp_path / "raw", tmp_path / "out", PackOptions())
    index = ShardIndex(tmp_path / "out/train")
    assert (index.input_kind, index.videos[0].frames[7]) == ("rgb", "000007")
    assert len(tar_of(tmp_path / "out/train").read_bytes()) < 2.5 * sum(
        path.stat().st_size for path in (tmp_path / "raw").rglob("*.mp4"))
    np.testing.assert_array_equal(np.asarray(FrameFiles(index, 0, 33).picture("labels")), read(index, 33))


def test_the_file_lies_in_the_tar_as_it_was_and_is_not_packed_again(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LEAST_TAR_BYTES", 1000)
    file = write_set(tmp_path / "raw")
    index = pack(tmp_path / "raw")
    entry = index.entry(0, "images", 0)
    assert file.stat().st_size == entry.size > 1000
    tar = (tmp_path / "out/train" / index.shards[0].name).read_bytes()
    assert tar[entry.offset :][: entry.size] == file.read_bytes()
    assert make_shards(tmp_path / "raw", tmp_path / "out", PackOptions(label_nc=35))[0].endswith("up to date")


def test_one_frame_is_fetched_without_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "BLOCK", 16 * 2**10)
    file = write_set(tmp_path / "raw", "mjpeg", ".mov", pixels="yuvj420p", width=768, height=512)
    expected = list(frames_of(file))
    size = pack(tmp_path / "raw").entry(0, "images", 0).size
    with range_server(tmp_path / "out") as server:
        index = ShardIndex(open_store(DataConfig(shards=server.url, cache=str(tmp_path / "cache")), "train"))
        before = server.n_bytes
        np.testing.assert_array_equal(read(index, N // 2), expected[N // 2])
        assert server.n_bytes - before < size / 2
        for i in range(N):
            np.testing.assert_array_equal(read(index, i), expected[i])


def test_damage_is_noticed(tmp_path: Path) -> None:
    write_set(tmp_path / "raw")
    entry = pack(tmp_path / "raw").entry(0, "images", 0)
    with tar_of(tmp_path / "out/train").open("r+b") as tar:
        tar.seek(entry.offset + entry.size // 2)
        tar.write(bytes(entry.size // 4))
    index = ShardIndex(tmp_path / "out/train")
    wrong = 0
    for i in range(N):
        try:
            read(index, i)
        except UserError as error:
            assert "images of a/frame_" in str(error) or "is not a video that can be read" in str(error)  # noqa: PT017
            wrong += 1
    assert wrong > N / 8


def _jump(root: Path) -> None:
    (root / "train_A/a/frame_7.png").rename(root / "train_A/a/frame_77.png")


def _other_size(root: Path) -> None:
    shutil.rmtree(root / "train_A/a")
    write_labels(root / "train_A/a", size=(48, 32))


def _of_ids(root: Path) -> None:
    (root / "train_inst").mkdir()
    shutil.copy(root / "train_B/a.mp4", root / "train_inst/a.mp4")


@pytest.mark.parametrize(("change", "words"), [
    (lambda root: (root / "train_A/a/frame_39.png").unlink(), r"a\.mp4 has 40 frames, but 39 files"),
    (_jump, r"a\.mp4 has a frame for each number, but after .*frame_39\.png comes frame_77\.png|after .*frame_6\.png"),
    (_other_size, r"a\.mp4: size 96x64 differs from the frame's other files \(48x32\)"),
    (_of_ids, r"a\.mp4: \.mp4 is not read"),
    (lambda root: shutil.copytree(root / "train_A/a", root / "train_B/a"), "another video of this name"),
    (lambda root: shutil.copy(root / "train_B/a.mp4", root / "train_B/a.mkv"), "another video of this name"),
    (lambda root: shutil.copy(root / "train_A/a/frame_0.png", root / "train_B"), "lies among frames"),
    (lambda root: (root / "train_B/a.mp4").write_bytes(bytes(5000)), "is not a video that can be read"),
    (lambda root: (root / "train_B/a.mp4").rename(root / "train_B/b.mp4"), "has no partner"),
])
def test_what_does_not_go_together_is_refused(tmp_path: Path, change: Callable[[Path], object], words: str) -> None:
    write_set(tmp_path / "raw")
    change(tmp_path / "raw")
    with pytest.raises(UserError, match=words):
        pack(tmp_path / "raw")


def test_a_width_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "raw")
    with pytest.raises(UserError, match=r"--size 64 with .*a\.mp4: video files are kept"):
        pack(tmp_path / "raw", width=64)
