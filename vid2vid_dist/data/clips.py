"""Clips for the trainer: which frames, how they are cut, and the frames themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.geometry import MIDDLE, Geometry, Size, draw, n_scales
from vid2vid_dist.data.images import fill
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.inputs import FrameFiles, frame_geometry
from vid2vid_dist.data.sampling import Window, clip_rng, epoch_order, frame_rng, window
from vid2vid_dist.data.store import MAKE_SHARDS, open_store
from vid2vid_dist.data.tasks.registry import check_task, task_of
from vid2vid_dist.errors import UserError

N_PASSED_OVER = 8  # clips, for the first one that can be read: a store that does not answer is asked that often


@dataclass(frozen=True)
class Clip:
    """One training sample: a window of one video and one geometry for all of its frames."""

    video: int
    name: str
    window: Window
    geometry: Geometry
    draws: tuple[int, int] | None = None
    """Epoch and number: the key of its frames' random numbers in training."""

    @property
    def n_frames(self) -> int:
        return self.window.n_frames

    @property
    def n_chunks(self) -> int:
        return self.window.n_chunks


@dataclass(frozen=True)
class Frames:
    """Decoded frames of a clip as stored (not yet normalised or encoded): F of the input, and their pictures.

    labels: (F, 1, H, W) uint8 ids, or what is drawn for the task (`DataTask.draw`) when label_nc is 0;
    images: (F, 3, H, W) uint8 RGB, or of other frames if those were asked for; None where the split has none;
    instances: (F, 1, H, W) int32 ids, None unless use_instance; or the numbers of the task's parts (`DataTask.parts`).
    names: of the input frames. flows: (P, 2, H, W) float32 in pixels, where a loader has found some.
    """

    labels: Tensor
    images: Tensor | None
    instances: Tensor | None
    names: list[str]
    flows: Tensor | None = None

    def part(self, frames: slice) -> Frames:
        """Some of the frames."""
        images, instances = (None if x is None else x[frames] for x in (self.images, self.instances))
        return Frames(self.labels[frames], images, instances, self.names[frames])


@dataclass(frozen=True)
class Request:
    """Frames of a clip by their numbers in it: which inputs (labels, instances), and which pictures."""

    clip: Clip
    labels: Sequence[int]
    images: Sequence[int]
    flows: Sequence[tuple[int, int]] = ()
    """Number and gap to the frame before: for loaders that find flow."""

    @classmethod
    def span(cls, clip: Clip, first: int, count: int) -> Request:
        """Everything of frames first .. first + count - 1."""
        return cls(clip, range(first, first + count), range(first, first + count))


class ClipSource:
    """The clips of one split. Stateless: every method is a function of its arguments.

    Raises UserError when the shards are missing or damaged, or contradict the configuration.
    """

    def __init__(self, data: DataConfig, n_frames_G: int, seed: int, split: str = "train",
                 check_tars: bool = True) -> None:
        self.data, self.n_frames_G, self.seed, self.split = data, n_frames_G, seed, split
        self.task = task_of(data)
        self.index = ShardIndex(open_store(data, split), check_tars)
        self._check()
        self._lengths = self.index.lengths[: self.n_videos]
        self._n_generable = np.cumsum(np.maximum(self._lengths - n_frames_G + 1, 0))

    @classmethod
    def of(cls, cfg: Config, split: str = "train", check_tars: bool = True) -> ClipSource:
        """The clips of a run; raises UserError, too, for a configuration that contradicts its task.

        check_tars: as of `ShardIndex`.
        """
        check_task(cfg)
        return cls(cfg.data, cfg.generator.n_frames_G, cfg.run.seed, split, check_tars)

    def opener(self) -> Callable[[], ClipSource]:
        """What opens the same shards in another process; raises UserError there when they are others by then."""
        return partial(_reopened, self.index.hash, self.data, self.n_frames_G, self.seed, self.split)

    @property
    def n_videos(self) -> int:
        """Videos in use, the first ones of the shards."""
        n_videos = len(self.index.videos)
        return min(n_videos, self.data.max_videos or n_videos)

    @property
    def n_clips(self) -> int:
        """Clips of an epoch (`DataTask.by_length`)."""
        return int(self._n_generable[-1]) if self.task.by_length else self.n_videos

    @property
    def longest(self) -> int:
        """Frames of the longest video."""
        return int(self._lengths.max())

    def require_chunk(self, chunk_frames: int) -> None:
        """Raise UserError if a video is too short for one chunk; call it before training starts."""
        needed = chunk_frames + self.n_frames_G - 1
        shortest = self.index.videos[int(self._lengths.argmin())]
        if len(shortest.frames) < needed:
            raise UserError(f"video {shortest.name} in {self.index.folder} has {len(shortest.frames)} frames, but a "
                            f"chunk of {chunk_frames} needs {needed} (chunk + n_frames_G - 1): remove the video or "
                            "lower schedule.n_generator_slots or schedule.max_frames_per_rank")

    def order(self, epoch: int) -> list[int]:
        """All clip numbers of an epoch, in the order in which they are to be used."""
        return epoch_order(self.seed, epoch, self.n_clips) if self.data.shuffle else list(range(self.n_clips))

    def n_chunks(self, epoch: int, n_frames_total: int, chunk_frames: int) -> np.ndarray:
        """(n_clips,): the chunks of each of an epoch's clips, by number, as `clip` cuts them."""
        lengths = self._lengths
        if self.task.by_length:
            draws = [clip_rng(self.seed, epoch, number).random() for number in range(self.n_clips)]  # 15 µs each
            lengths = lengths[_video_of(np.array(draws), self._n_generable)]
        generated = np.minimum(n_frames_total, lengths - self.n_frames_G + 1)
        return generated // np.minimum(generated, chunk_frames)

    def sizes(self) -> set[Size]:
        """Of frames in training, at every scale that may be drawn; where what is used of a frame depends on what it
        shows, as the first frame of one video of each size has it. One that cannot be read raises UserError, or is left
        out where `data.max_faults` allows some: it is met again in training."""
        n, found = n_scales(self.data), set()
        draws = [replace(MIDDLE, scale=(i + 0.5) / n) for i in range(n)]
        for video in self.index.one_of_each_size(self.n_videos):
            files = FrameFiles(self.index, video, 0)
            try:
                found |= {frame_geometry(files, self.data, drawn, may_flip=False).size for drawn in draws}
            except UserError:
                if not self.data.max_faults:
                    raise
        return found

    def clip(self, epoch: int, number: int, n_frames_total: int, chunk_frames: int) -> Clip:
        """Clip `number` of `epoch`; generates up to `n_frames_total` frames in chunks of `chunk_frames`."""
        rng = clip_rng(self.seed, epoch, number)
        which = int(_video_of(rng.random(), self._n_generable)) if self.task.by_length else number
        video = self.index.videos[which]
        if len(video.frames) < chunk_frames + self.n_frames_G - 1:
            self.require_chunk(chunk_frames)
        frames = window(len(video.frames), n_frames_total, chunk_frames, self.n_frames_G, self.data.max_t_step,
                        rng.random(), rng.random(), number if self.task.by_length else None)
        training = self.split == "train"
        files = FrameFiles(self.index, which, frames.start)
        geometry = frame_geometry(files, self.data, draw(rng), may_flip=training)
        return Clip(which, video.name, frames, geometry, (epoch, number) if training else None)

    def first(self, n_frames_total: int, chunk_frames: int) -> Clip:
        """The first clip by number that can be cut; some before it need not, where `data.max_faults` allows any."""
        n_passed_over = min(self.data.max_faults, N_PASSED_OVER, self.n_clips - 1)
        for number in range(n_passed_over):
            with suppress(UserError):
                return self.clip(1, number, n_frames_total, chunk_frames)
        return self.clip(1, n_passed_over, n_frames_total, chunk_frames)

    def whole(self, number: int) -> Clip:
        """Every frame of video `number` in order, not mirrored, crops and scales in mid-range, nothing left out."""
        video = self.index.videos[number]
        n_frames, chunk_frames = len(video.frames), len(video.frames) - self.n_frames_G + 1
        if chunk_frames < 1:
            raise UserError(f"video {video.name} in {self.index.folder} has {n_frames} frames, but n_frames_G="
                            f"{self.n_frames_G} are needed for the first generated one")
        frames = Window(start=0, t_step=1, n_frames=n_frames, chunk_frames=chunk_frames, n_chunks=1)
        geometry = frame_geometry(FrameFiles(self.index, number, 0), self.data, MIDDLE, may_flip=False)
        return Clip(number, video.name, frames, geometry)

    def load(self, request: Request) -> Frames:
        """Decode what is asked for, and nothing else."""
        clip, data = request.clip, self.data
        assert all(0 <= i < clip.n_frames for i in (*request.labels, *request.images)), f"{request}"
        files = {i: FrameFiles(self.index, clip.video, clip.window.start + i * clip.window.t_step)
                 for i in {*request.labels, *request.images}}
        inputs = [*self.task.inputs(data), *(["instances"] if data.use_instance else [])]
        self.index.prepare(clip.video, [(modality, files[i].frame) for modality, numbers in (
            *((modality, request.labels) for modality in inputs), ("images", request.images)) for i in numbers])
        width, height = clip.geometry.size

        def drawn(numbers: Sequence[int], channels: int, of_frame: Callable[[FrameFiles], np.ndarray | Image.Image],
                  dtype: type = np.uint8) -> Tensor:
            frames: np.ndarray = np.empty((len(numbers), channels, height, width), dtype)
            for place, i in zip(frames, numbers, strict=True):
                found = of_frame(files[i])
                if isinstance(found, Image.Image):
                    fill(place, found)
                else:
                    place[:] = found
            return torch.from_numpy(frames)

        labels = drawn(request.labels, 1 if data.label_nc else data.input_nc, lambda of: self.task.draw(
            of, data, clip.geometry, self._frame_rng(clip, of.frame)))
        images = instances = None
        if "images" in self.index.modalities:
            images = drawn(request.images, 3, lambda of: clip.geometry.cut(of.picture("images")))
        if data.use_instance:
            instances = drawn(request.labels, 1, lambda of: clip.geometry.cut(of.picture("instances")), np.int32)
        elif (parts := self.task.parts) is not None:
            instances = drawn(request.labels, 1, lambda of: parts.draw(of, clip.geometry), np.int32)
        names = self.index.videos[clip.video].frames
        return Frames(labels, images, instances, [names[files[i].frame] for i in request.labels])

    def _frame_rng(self, clip: Clip, frame: int) -> np.random.Generator | None:
        return None if clip.draws is None else frame_rng(self.seed, *clip.draws, frame)

    def identity(self) -> dict[str, Any]:
        """What the sequence of clips depends on: a resumed run must find the same."""
        free = "shards", "cache", "cache_gb", "workers", "max_faults"
        options = {key: value for key, value in asdict(self.data).items() if key not in free}
        return {"index": self.index.hash, "frames": self.index.of_frames(), "split": self.split, "seed": self.seed,
                "n_frames_G": self.n_frames_G, **options}

    def _check(self) -> None:
        index, data, task = self.index, self.data, self.task
        if index.task is not task:
            raise UserError(f"{index.folder} was packed for data.task={index.task.name}, not {task.name}: set it, or "
                            f"pack other shards (`{MAKE_SHARDS} --task {task.name}`)")
        needed = dict.fromkeys(task.inputs(data), "the input is drawn from them: pack them, or set the options of data "
                                                  "so that they are not read")
        if self.split == "train":
            needed["images"] = "training needs them: pack them"
        if data.use_instance:
            needed["instances"] = "pack them beside the labels, or train with data.use_instance=false"
        for modality, fix in needed.items():
            if modality not in index.modalities:
                folder = f"{self.split}_{task.modalities[modality].folder}"
                raise UserError(f"{index.folder} has no {modality} ({folder}): {fix}")
        task.check_shards(index, data)


def _reopened(expected: str, data: DataConfig, n_frames_G: int, seed: int, split: str) -> ClipSource:
    source = ClipSource(data, n_frames_G, seed, split, check_tars=False)
    if source.index.hash != expected:
        raise UserError(f"{source.index.folder} was packed again after this program had opened it: start it again")
    return source


def _video_of(u: float | np.ndarray, n_generable: np.ndarray) -> np.ndarray:
    """The videos that uniform numbers `u` in [0, 1) fall on when each is as likely as the frames that it can
    generate are many; `n_generable` are those of all videos up to each."""
    return np.searchsorted(n_generable, (u * n_generable[-1]).astype(np.int64), side="right")
