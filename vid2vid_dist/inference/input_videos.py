"""What videos are generated from: shards, a folder of frames, or an mp4."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.atomic import locked
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.data.contact import CONTACT_SHEET
from vid2vid_dist.data.decoding import Decoders
from vid2vid_dist.data.folders import SPLITS, walk
from vid2vid_dist.data.geometry import MIDDLE, Size, clip_geometry
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.data.video_file import count_frames, frames_of
from vid2vid_dist.errors import UserError


@dataclass(frozen=True)
class Video:
    """One video of an input; `size` (width, height) is what the networks see."""

    name: str
    n_frames: int
    size: Size


class Input(Protocol):
    """Videos of label maps or RGB frames, with real frames or without."""

    where: str  # for messages
    identity: str  # another one for other contents
    videos: list[Video]
    has_images: bool

    def read(self, video: int, spans: Sequence[range]) -> Iterator[Frames]:
        """The frames of each span of a video, by number; each span begins where the one before it ends."""
        ...


class ShardInput:
    """One split of a shard folder."""

    def __init__(self, cfg: Config, split: str, packed_from: Path | None = None) -> None:
        self._source = ClipSource.of(cfg, split)
        self._decoders = Decoders(self._source, cfg.data.workers, self._source.task.in_python)
        self.where = str(packed_from or self._source.index.folder)
        self.identity = f"{self._source.index.hash} {self._source.index.of_frames()}"
        self.has_images = "images" in self._source.index.modalities
        self._clips = [self._source.whole(number) for number in range(self._source.n_videos)]
        self.videos = [Video(clip.name, clip.n_frames, clip.geometry.size) for clip in self._clips]

    def read(self, video: int, spans: Sequence[range]) -> Iterator[Frames]:
        requests = [Request.span(self._clips[video], span.start, len(span)) for span in spans]
        return self._decoders.stream(requests)


class VideoFileInput:
    """A video file as RGB input, decoded frame by frame. Frames are named by their number."""

    def __init__(self, cfg: Config, file: Path) -> None:
        if cfg.data.label_nc or task_of(cfg.data).labels is None:
            raise UserError(f"{file}: a video file holds colours, but this model reads other input "
                            f"(data.task={cfg.data.task}, data.label_nc={cfg.data.label_nc}): give a folder or shards")
        self._file, self.where, self.has_images = file, str(file), False
        status = file.stat()
        self.identity = f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
        n_frames, size = count_frames(file)
        self._geometry = clip_geometry(size, cfg.data, MIDDLE, may_flip=False)
        self.videos = [Video(file.stem, n_frames, self._geometry.size)]

    def read(self, video: int, spans: Sequence[range]) -> Iterator[Frames]:
        assert video == 0
        decoded = islice(frames_of(self._file, told=False), spans[0].start, None)
        for span in spans:
            arrays = [self._geometry.apply(Image.fromarray(pixels)) for pixels in islice(decoded, len(span))]
            yield Frames(torch.from_numpy(np.stack(arrays)), None, None, [f"{number:06d}" for number in span])


def open_input(path: Path | None, cfg: Config, split: str, work: Path) -> Input:
    """The input that `path` is: a shard folder or one split of it, a folder of frames, a video file.

    None = the shards that the model was trained on. A folder of frames is checked and packed into `work` first: in the
    raw layout of the model's task, or, where one kind of files is enough, one folder per video or the frames of one.
    Raises `UserError` for anything else, and for contents that contradict the configuration.
    """
    if path is None:
        return ShardInput(cfg, split)
    if path.is_file():
        return VideoFileInput(cfg, path)
    if not path.is_dir():
        raise UserError(f"--input {path}: no such file or folder")
    packed = [entry.name for entry in sorted(path.iterdir()) if (entry / "index.json").is_file()]
    shards = path
    packed_from: Path | None = None
    if (path / "index.json").is_file():
        shards, split = path.parent, path.name
    elif packed and split not in packed:
        raise UserError(f"--input {path} holds shards of {', '.join(packed)}, not of {split}: --split {packed[0]}")
    elif not packed:
        from vid2vid_dist.data.shards import PackOptions, make_shards  # needs webdataset, which generation does not

        shards, packed_from = work, path
        with locked(work):  # of several ranks, one packs
            options = PackOptions(label_nc=cfg.data.label_nc, task=cfg.data.task)
            try:
                raw = _raw_layout(path, split, cfg.data, work)
                if cfg.data.use_instance and not (raw / f"{split}_inst").is_dir():
                    raise UserError(f"--input {path} has no instance ids, which this model reads beside the labels "
                                    f"(data.use_instance): give a folder with {split}_A/ and {split}_inst/ in it")
                make_shards(raw, work, options)
            finally:
                shutil.rmtree(work / "raw", ignore_errors=True)  # links; what they lead to stays
    return ShardInput(replace(cfg, data=replace(cfg.data, shards=str(shards))), split, packed_from)


def _raw_layout(path: Path, split: str, data: DataConfig, work: Path) -> Path:
    """A folder in the raw layout (`data.folders`): `path` itself, or links to it. Raises UserError for all that could
    be meant in another way."""
    task = task_of(data)
    wanted = [task.modalities[name] for name in {*task.needed, *task.inputs(data)}]
    main = task.modalities[task.needed[0]].folder
    if (path / f"{split}_{main}").is_dir():
        return path
    found = list(walk(path))
    there = ", ".join(sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in path.iterdir())[:8])
    folders = ", ".join(f"{split}_{modality.folder}/" for modality in task.modalities.values())
    reads = f"a model of data.task={task.name} reads a folder with {folders} in it"
    for other in SPLITS:
        if (path / f"{other}_{main}").is_dir():
            raise UserError(f"--input {path} holds frames of {other}, not of {split}: --split {other}")
        if any(entry.name.startswith(f"{other}_") for entry in path.iterdir() if entry.is_dir()):
            raise UserError(f"--input {path} holds {there}: {reads}")
    frames = [file for _, files in found for file in files if file.suffix.lower() in wanted[0].suffixes]
    sheets = [file for file in frames if file.name == CONTACT_SHEET]
    if len(wanted) > 1 or not frames or sheets:
        sheet = f", and {sheets[0]} is a contact sheet, no frame" if sheets else ""
        raise UserError(f"--input {path} holds {there or 'nothing'}{sheet}: {reads}, or shards" + (
            "" if len(wanted) > 1 else ", a folder of frames or of folders of frames, or one video file"))
    loose = {file.parent == path for file in frames}
    if len(loose) > 1:
        raise UserError(f"--input {path} holds frames ({there}) and folders of frames: name the folder that is meant")
    link = work / "raw" / f"{split}_{wanted[0].folder}" / (path.resolve().name if loose == {True} else "")
    shutil.rmtree(work / "raw", ignore_errors=True)  # of a packing that was killed
    link.parent.mkdir(parents=True)
    link.symlink_to(path.resolve())
    return work / "raw"
