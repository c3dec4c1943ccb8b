"""Clips for the trainer: which frames, how they are cut, and the frames themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.geometry import MIDDLE, Geometry, clip_geometry, draw
from vid2vid_dist.data.images import decode
from vid2vid_dist.data.index import MAKE_SHARDS, ShardIndex
from vid2vid_dist.data.sampling import Window, clip_rng, epoch_order, window
from vid2vid_dist.errors import UserError


@dataclass(frozen=True)
class Clip:
    """One training sample: a window of one video and one geometry for all of its frames."""

    video: int
    name: str
    window: Window
    geometry: Geometry

    @property
    def n_frames(self) -> int:
        return self.window.n_frames

    @property
    def chunk_frames(self) -> int:
        return self.window.chunk_frames

    @property
    def n_chunks(self) -> int:
        return self.window.n_chunks


@dataclass(frozen=True)
class Frames:
    """Decoded frames of a clip as stored (not yet normalised or encoded): F of the input, and their pictures.

    labels: (F, 1, H, W) uint8 ids, or (F, 3, H, W) uint8 RGB when label_nc is 0;
    images: (F, 3, H, W) uint8 RGB, or of other frames if those were asked for; None where the split has none;
    instances: (F, 1, H, W) int32 ids, None unless use_instance; names: of the input frames.
    """

    labels: Tensor
    images: Tensor | None
    instances: Tensor | None
    names: list[str]


@dataclass(frozen=True)
class Request:
    """Frames of a clip by their numbers in it: which inputs (labels, instances), and which pictures."""

    clip: Clip
    labels: Sequence[int]
    images: Sequence[int]

    @classmethod
    def span(cls, clip: Clip, first: int, count: int) -> Request:
        """Everything of frames first .. first + count - 1."""
        return cls(clip, range(first, first + count), range(first, first + count))


def to_float(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 images -> [-1, 1] in `dtype`: (u/255 - 0.5)/0.5, computed in at least float32."""
    wide = torch.promote_types(dtype, torch.float32)
    return ((images.to(wide) / 255 - 0.5) / 0.5).to(dtype)


class ClipSource:
    """The clips of one split. Stateless: every method is a function of its arguments.

    Raises UserError when the shards are missing or damaged, or contradict the configuration.
    """

    def __init__(self, data: DataConfig, n_frames_G: int, seed: int, split: str = "train") -> None:
        self.data, self.n_frames_G, self.seed, self.split = data, n_frames_G, seed, split
        self.index = ShardIndex(Path(data.shards) / split)
        self._check()

    @property
    def n_clips(self) -> int:
        """Clips of an epoch: one of each video."""
        n_videos = len(self.index.videos)
        return min(n_videos, self.data.max_videos or n_videos)

    @property
    def longest(self) -> int:
        """Frames of the longest video."""
        return max(len(video.frames) for video in self.index.videos[: self.n_clips])

    def require_chunk(self, chunk_frames: int) -> None:
        """Raise UserError if a video is too short for one chunk; call it before training starts."""
        needed = chunk_frames + self.n_frames_G - 1
        shortest = min(self.index.videos[: self.n_clips], key=lambda video: len(video.frames))
        if len(shortest.frames) < needed:
            raise UserError(
                f"video {shortest.name} in {self.index.folder} has {len(shortest.frames)} frames, but a "
                f"chunk of {chunk_frames} needs {needed} (chunk + n_frames_G - 1): remove the video or "
                "lower schedule.n_generator_slots or schedule.max_frames_per_rank"
            )

    def order(self, epoch: int) -> list[int]:
        """All clip numbers of an epoch, in the order in which they are to be used."""
        return epoch_order(self.seed, epoch, self.n_clips) if self.data.shuffle else list(range(self.n_clips))

    def clip(self, epoch: int, number: int, n_frames_total: int, chunk_frames: int) -> Clip:
        """Clip `number` of `epoch`; generates up to `n_frames_total` frames in chunks of `chunk_frames`."""
        video = self.index.videos[number]
        if len(video.frames) < chunk_frames + self.n_frames_G - 1:
            self.require_chunk(chunk_frames)
        rng = clip_rng(self.seed, epoch, number)
        frames = window(
            len(video.frames),
            n_frames_total,
            chunk_frames,
            self.n_frames_G,
            self.data.max_t_step,
            rng.random(),
            rng.random(),
        )
        geometry = clip_geometry(video.size, self.data, draw(rng), may_flip=self.split == "train")
        return Clip(number, video.name, frames, geometry)

    def whole(self, number: int) -> Clip:
        """Every frame of video `number` in order, not mirrored, crops and scales in mid-range."""
        video = self.index.videos[number]
        n_frames, chunk_frames = len(video.frames), len(video.frames) - self.n_frames_G + 1
        if chunk_frames < 1:
            raise UserError(
                f"video {video.name} in {self.index.folder} has {n_frames} frames, but n_frames_G="
                f"{self.n_frames_G} are needed for the first generated one"
            )
        frames = Window(start=0, t_step=1, n_frames=n_frames, chunk_frames=chunk_frames, n_chunks=1)
        return Clip(number, video.name, frames, clip_geometry(video.size, self.data, MIDDLE, may_flip=False))

    def size_of(self, clip: Clip) -> tuple[int, int]:
        """Width and height of the clip's frames as `load` returns them."""
        return clip.geometry.size

    def load(self, request: Request) -> Frames:
        """Decode what is asked for, and nothing else."""
        clip = request.clip
        assert all(0 <= i < clip.n_frames for i in (*request.labels, *request.images)), f"{request}"
        inputs, pictures = ([clip.window.start + i * clip.window.t_step for i in numbers]
                            for numbers in (request.labels, request.images))
        channels = 1 if self.data.label_nc else self.data.input_nc
        labels = self._stack(clip, "labels", inputs, channels).to(torch.uint8)
        images = self._stack(clip, "images", pictures, 3) if self.index.has("images") else None
        instances = self._stack(clip, "instances", inputs, 1).to(torch.int32) if self.data.use_instance else None
        return Frames(labels, images, instances, [self.index.videos[clip.video].frames[i] for i in inputs])

    def identity(self) -> dict[str, Any]:
        """What the sequence of clips depends on: a resumed run must find the same."""
        options = {key: value for key, value in asdict(self.data).items() if key not in ("shards", "workers")}
        return {
            "index": self.index.hash,
            "split": self.split,
            "seed": self.seed,
            "n_frames_G": self.n_frames_G,
            **options,
        }

    def _stack(self, clip: Clip, modality: str, frames: list[int], channels: int) -> Tensor:
        if not frames:
            width, height = self.size_of(clip)
            return torch.empty(0, channels, height, width, dtype=torch.uint8)
        arrays = []
        for frame in frames:
            where = self.index.where(clip.video, modality, frame)
            image = decode(self.index.read(clip.video, modality, frame), modality, where)
            if image.size != self.index.videos[clip.video].size:
                raise UserError(
                    f"{where}: size {image.size} differs from the index: run `{MAKE_SHARDS}` again"
                )
            arrays.append(clip.geometry.apply(image))
        return torch.from_numpy(np.stack(arrays))

    def _check(self) -> None:
        index, data = self.index, self.data
        if data.label_nc and index.input_kind == "rgb":
            raise UserError(
                f"{index.folder} holds RGB input but data.label_nc={data.label_nc}: set data.label_nc=0 "
                "(and data.input_nc=3), or pack label maps of one channel"
            )
        if not data.label_nc and (index.input_kind != "rgb" or data.input_nc != 3):
            raise UserError(
                f"data.label_nc=0 needs RGB input with data.input_nc=3; {index.folder} holds "
                f"{index.input_kind} input and data.input_nc={data.input_nc}"
            )
        if data.label_nc and index.largest_label >= data.label_nc:
            raise UserError(
                f"{index.folder}: label id {index.largest_label} in {index.largest_label_at} is not below "
                f"data.label_nc={data.label_nc}: raise data.label_nc or relabel the file"
            )
        if self.split == "train" and not index.has("images"):
            raise UserError(f"{index.folder} has no images (train_B): training needs them")
        if data.use_instance and not index.has("instances"):
            raise UserError(
                f"{index.folder} has no instance maps ({self.split}_inst): set data.use_instance=false "
                "or pack them"
            )


def stream(source: ClipSource, requests: Iterable[Request], workers: int) -> Iterator[Frames]:
    """The frames of each request, in order, decoded ahead by `workers` threads (0 = when they are asked for).

    Raises UserError as `ClipSource.load` would. Threads are enough: nearly all of the time goes into
    Pillow's decoding and resizing, which let the interpreter go on.
    """
    if not workers:
        yield from map(source.load, requests)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        ahead: deque[Future[Frames]] = deque()
        for request in requests:
            ahead.append(pool.submit(source.load, request))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
