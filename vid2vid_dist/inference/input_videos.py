"""What videos are generated from: shards, a folder of frames, or an mp4."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import torch

from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.atomic import locked
from vid2vid_dist.data.clips import ClipSource, Frames, Request, stream
from vid2vid_dist.data.geometry import MIDDLE, Size, clip_geometry
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.errors import UserError


@dataclass(frozen=True)
class Video:
    """One video of an input; `size` (width, height) is what the networks see."""

    name: str
    n_frames: int
    size: Size


@dataclass(frozen=True)
class Span:
    """Frames first .. first + count - 1 of a video."""

    first: int
    count: int


class Input(Protocol):
    """Videos of label maps or RGB frames, with real frames or without."""

    where: str  # for messages
    identity: str  # another one for other contents
    videos: list[Video]
    has_images: bool

    def read(self, video: int, spans: Sequence[Span]) -> Iterator[Frames]:
        """The frames of each span of a video; each span begins where the one before it ends."""
        ...


class ShardInput:
    """One split of a shard folder."""

    def __init__(self, cfg: Config, split: str) -> None:
        self._source = ClipSource.of(cfg, split)
        self._workers = cfg.data.workers
        self.where = str(self._source.index.folder)
        self.identity = self._source.index.hash
        self.has_images = self._source.index.has("images")
        self._clips = [self._source.whole(number) for number in range(self._source.n_videos)]
        self.videos = [Video(clip.name, clip.n_frames, clip.geometry.size) for clip in self._clips]

    def read(self, video: int, spans: Sequence[Span]) -> Iterator[Frames]:
        requests = [Request.span(self._clips[video], span.first, span.count) for span in spans]
        return stream(self._source, requests, self._workers)


class VideoFileInput:
    """A video file as RGB input, decoded frame by frame. Frames are named by their number."""

    def __init__(self, cfg: Config, file: Path) -> None:
        if cfg.data.label_nc or task_of(cfg.data).labels is None:
            raise UserError(f"{file}: a video file holds colours, but this model reads other input "
                            f"(data.task={cfg.data.task}, data.label_nc={cfg.data.label_nc}): give a folder or shards")
        self._file, self.where, self.has_images = file, str(file), False
        status = file.stat()
        self.identity = f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
        try:
            with av.open(str(file)) as container:
                stream = container.streams.video[0]
                # Not every container says how many frames it holds; packets can be counted without decoding.
                n_frames = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
                size = stream.codec_context.width, stream.codec_context.height
        except (OSError, IndexError, av.FFmpegError) as error:
            raise UserError(f"{file} is not a video that can be read ({error}): give mp4, shards or a folder") from None
        self._geometry = clip_geometry(size, cfg.data, MIDDLE, may_flip=False)
        self.videos = [Video(file.stem, n_frames, self._geometry.size)]

    def read(self, video: int, spans: Sequence[Span]) -> Iterator[Frames]:
        assert video == 0
        decoded = self._decoded()
        for _ in zip(range(spans[0].first), decoded, strict=False):
            pass  # frames before the first span
        for span in spans:
            arrays = [self._geometry.apply(frame.to_image()) for frame in islice(decoded, span.count)]
            names = [f"{span.first + i:06d}" for i in range(span.count)]
            yield Frames(torch.from_numpy(np.stack(arrays)), None, None, names)

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """The frames that the container says it has. Raises `UserError` at one that is damaged or not there."""
        count, reason = 0, "it ends there"
        try:
            with av.open(str(self._file)) as container:
                for frame in container.decode(video=0):
                    yield frame
                    count += 1
        except (OSError, av.FFmpegError) as error:
            reason = str(error)
        if count < self.videos[0].n_frames:
            raise UserError(f"{self._file}: frame {count} of {self.videos[0].n_frames} cannot be decoded ({reason}): "
                            f"copy the file again, or generate from the {count} before it (--how-many)")


def open_input(path: Path | None, cfg: Config, split: str, work: Path) -> Input:
    """The input that `path` is: a shard folder or one split of it, a folder of frames, a video file.

    None = the shards that the model was trained on. A folder of frames is checked and packed into `work` first: in the
    raw layout of the model's task, or, of label maps, one folder per video or just the frames of one.
    Raises `UserError` for anything else, and for contents that contradict the configuration.
    """
    if path is None:
        return ShardInput(cfg, split)
    if path.is_file():
        return VideoFileInput(cfg, path)
    if not path.is_dir():
        raise UserError(f"--input {path}: no such file or folder")
    shards = path
    if (path / "index.json").is_file():
        shards, split = path.parent, path.name
    elif not (path / split / "index.json").is_file():
        from vid2vid_dist.data.shards import PackOptions, make_shards  # needs webdataset, which generation does not

        shards = work
        with locked(work):  # of several ranks, one packs
            options = PackOptions(label_nc=cfg.data.label_nc, task=cfg.data.task)
            make_shards(_raw_layout(path, split, cfg.data, work), work, options)
    return ShardInput(replace(cfg, data=replace(cfg.data, shards=str(shards))), split)


def _raw_layout(path: Path, split: str, data: DataConfig, work: Path) -> Path:
    """A folder in the raw layout (`data.folders`): `path` itself, or links to it."""
    task = task_of(data)
    wanted = [task.modalities[name] for name in {*task.needed, *task.inputs(data)}]
    if (path / f"{split}_{task.modalities[task.needed[0]].folder}").is_dir():
        return path
    if len(wanted) > 1:
        folders = ", ".join(f"{split}_{modality.folder}/" for modality in task.modalities.values())
        raise UserError(f"--input {path}: a model of data.task={task.name} reads a folder with {folders} in it; "
                        "--split chooses another split")
    holds_frames = any(entry.name.endswith(wanted[0].suffixes) for entry in os.scandir(path))
    link = work / "raw" / f"{split}_{wanted[0].folder}" / (path.name if holds_frames else "")
    shutil.rmtree(work / "raw", ignore_errors=True)  # links of an earlier input; what they lead to stays
    link.parent.mkdir(parents=True)
    link.symlink_to(path.resolve())
    return work / "raw"
