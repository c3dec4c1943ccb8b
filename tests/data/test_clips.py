"""Clips: the right frames, purity, workers, contradictions of shards and configuration."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.damage import tar_of
from tests.data.conftest import save
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import Clip, ClipSource, Request
from vid2vid_dist.data.decoding import Decoders
from vid2vid_dist.data.folders import scan
from vid2vid_dist.data.images import to_float
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.errors import UserError


@pytest.fixture
def data(toy_shards: Path) -> DataConfig:
    return DataConfig(shards=str(toy_shards), loadSize=64, use_instance=True)


def clips(source: ClipSource, epoch: int) -> list[Clip]:
    return [source.clip(epoch, number, 4, 2) for number in source.order(epoch)]


def test_chunks_and_sizes_are_known_without_clips(data: DataConfig) -> None:
    """At a random scale too: those of many clips are among them, the extremes are there."""
    drawn = ClipSource(replace(data, resize_or_crop="randomScaleWidth", loadSize=160, fineSize=64), 3, seed=1)
    found = [drawn.clip(epoch, number, 4, 3) for epoch in range(40) for number in range(drawn.n_clips)]
    assert {clip.geometry.size for clip in found} == drawn.sizes() > {(64, 32), (160, 64)}
    for epoch, total, chunk in ((0, 4, 2), (1, 9, 4), (2, 3, 1)):
        cut = [drawn.clip(epoch, number, total, chunk).n_chunks for number in range(drawn.n_clips)]
        assert drawn.n_chunks(epoch, total, chunk).tolist() == cut


def test_frames_of_a_clip(data: DataConfig, toy_raw: Path) -> None:
    source = ClipSource(data, 3, seed=1)
    clip = source.clip(0, 2, n_frames_total=5, chunk_frames=2)
    assert (clip.video, clip.name, clip.n_frames, clip.window.chunk_frames, clip.n_chunks) == (
        2,
        "street0002",
        6,
        2,
        2,
    )
    assert clip.geometry.size == (64, 32)
    frames = source.load(Request.span(clip, 2, 3))
    assert frames.labels.shape == (3, 1, 32, 64)
    assert frames.images is not None
    assert frames.images.shape == (3, 3, 32, 64)
    assert frames.instances is not None
    assert frames.instances.dtype == torch.int32
    start = clip.window.start + 2
    assert frames.names == [f"frame{i:06d}" for i in range(start, start + 3)]
    flip = clip.geometry.flip
    for modality, tensor in (
        ("labels", frames.labels),
        ("images", frames.images),
        ("instances", frames.instances),
    ):
        files = scan(toy_raw, "train")[2].files[modality][start : start + 3]
        raw = np.stack([np.asarray(Image.open(file)) for file in files]).astype(np.int32)
        raw = raw[..., None] if raw.ndim == 3 else raw
        raw = raw[:, :, ::-1] if flip else raw
        np.testing.assert_array_equal(tensor.permute(0, 2, 3, 1).numpy(), raw)


def test_clips_are_a_function_of_seed_epoch_and_number(data: DataConfig) -> None:
    data = replace(data, resize_or_crop="randomScaleWidth_and_crop", loadSize=96, fineSize=64, max_t_step=2)
    first = [clips(ClipSource(data, 3, 0), epoch) for epoch in range(6)]
    source = ClipSource(data, 3, 0)
    again = [clips(source, epoch) for epoch in reversed(range(6))]
    assert again[::-1] == first
    assert clips(ClipSource(data, 3, 1), 0) != first[0]
    assert len({str(epoch) for epoch in first}) == 6
    assert all(sorted(clip.video for clip in epoch) == [0, 1, 2] for epoch in first)


def test_order_without_shuffling_and_fewer_videos(data: DataConfig) -> None:
    source = ClipSource(replace(data, shuffle=False, max_videos=2), 3, 0)
    assert source.n_clips == 2
    assert source.order(3) == [0, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(data: DataConfig, workers: int) -> None:
    source = ClipSource(data, 3, 0)
    requests = [
        Request.span(clip, first, 2) for epoch in range(2) for clip in clips(source, epoch) for first in (0, 2)
    ]
    alone, together = (list(Decoders(source, n, in_processes=False).stream(requests)) for n in (0, workers))
    assert len(alone) == len(requests)
    for a, b in zip(alone, together, strict=True):
        assert a.names == b.names
        assert a.images is not None
        assert b.images is not None
        assert a.labels.equal(b.labels)
        assert a.images.equal(b.images)


def test_stream_reads_only_a_little_ahead(data: DataConfig) -> None:
    source = ClipSource(data, 3, 0)
    clip, drawn = source.whole(0), []

    def requests() -> Iterator[Request]:
        for i in range(1000):
            drawn.append(i)
            yield Request.span(clip, i % 8, 1)

    frames = Decoders(source, 2, in_processes=False).stream(requests())
    next(frames)
    frames.close()
    assert len(drawn) == 5


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_worker_arrives_in_its_own_words(data: DataConfig, tmp_path: Path, workers: int) -> None:
    shutil.copytree(data.shards, tmp_path / "copy")
    source = ClipSource(replace(data, shards=str(tmp_path / "copy")), 3, 0)
    tar = tar_of(tmp_path / "copy/train")
    tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(UserError, match=r"^labels of street0000/frame000000 in .*differ from the index"):
        list(Decoders(source, workers, in_processes=False).stream([Request.span(source.whole(0), 0, 1)]))


def test_whole_video_is_not_augmented(data: DataConfig) -> None:
    source = ClipSource(data, 3, 0, "test")
    clip = source.whole(0)
    assert (clip.window.start, clip.window.t_step, clip.n_frames) == (0, 1, 8)
    assert not clip.geometry.flip
    assert not any(c.geometry.flip for epoch in range(20) for c in clips(source, epoch))


def test_clip_shorter_than_a_chunk_needs(data: DataConfig) -> None:
    source = ClipSource(data, 3, 0)
    source.require_chunk(6)
    with pytest.raises(UserError, match=r"video street000\d in .*has 8 frames, but a chunk of 7 needs 9"):
        source.require_chunk(7)
    with pytest.raises(UserError, match="has 8 frames, but a chunk of 7 needs 9"):
        source.clip(0, 0, 30, 7)
    with pytest.raises(UserError, match="n_frames_G=9"):
        ClipSource(data, 9, 0).whole(0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shards": "nowhere"}, "no shards at nowhere/train"),
        ({"label_nc": 20}, r"label id 2\d in .*\.png is not below data.label_nc=20"),
    ],
)
def test_contradicting_configuration(data: DataConfig, change: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ClipSource(replace(data, **change), 3, 0)


def test_missing_modalities(raw: Path, tmp_path: Path) -> None:
    shutil.rmtree(raw / "train_inst")
    make_shards(raw, tmp_path / "out", PackOptions())
    data = DataConfig(shards=str(tmp_path / "out"), loadSize=32)
    assert ClipSource(data, 3, 0).load(Request.span(ClipSource(data, 3, 0).whole(0), 0, 1)).instances is None
    with pytest.raises(UserError, match=r"no instances \(train_inst\): pack them"):
        ClipSource(replace(data, use_instance=True), 3, 0)


def test_rgb_input(raw: Path, tmp_path: Path) -> None:
    shutil.rmtree(raw / "train_inst")
    for path in (raw / "train_A").rglob("*.png"):
        save(path, np.asarray(Image.open(path).convert("RGB")))
    make_shards(raw, tmp_path / "out", PackOptions())
    data = DataConfig(shards=str(tmp_path / "out"), label_nc=0, loadSize=32)
    source = ClipSource(data, 3, 0)
    assert source.load(Request.span(source.whole(1), 0, 2)).labels.shape == (2, 3, 32, 32)
    with pytest.raises(UserError, match=r"holds RGB input but data\.label_nc=35"):
        ClipSource(replace(data, label_nc=35), 3, 0)


def test_identity_changes_with_what_the_clips_depend_on(data: DataConfig) -> None:
    same = ClipSource(data, 3, 0).identity()
    assert ClipSource(replace(data, workers=7, max_faults=7), 3, 0).identity() == same
    others = [
        ClipSource(replace(data, loadSize=32), 3, 0),
        ClipSource(replace(data, no_flip=True), 3, 0),
        ClipSource(data, 4, 0),
        ClipSource(data, 3, 1),
        ClipSource(data, 3, 0, "test"),
    ]
    assert all(other.identity() != same for other in others)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_to_float(dtype: torch.dtype) -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    exact = (torch.arange(256, dtype=torch.float64) / 255 - 0.5) / 0.5
    found = to_float(levels, dtype)
    assert found.dtype == dtype
    assert float((found.double() - exact).abs().max()) <= torch.finfo(dtype).eps
