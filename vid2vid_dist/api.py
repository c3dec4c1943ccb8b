"""The program from Python, plain arrays in and out: `import vid2vid_dist as v` has all of it (docs/api.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.data.geometry import MIDDLE, Size, clip_geometry
from vid2vid_dist.data.images import by, to_float
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import LoadedGenerator, load_generator
from vid2vid_dist.inference.runtime import choose_device, choose_dtype
from vid2vid_dist.inference.styles import StyleOptions, choose_styles
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.monitor.pictures import image_pictures
from vid2vid_dist.untrusted import shown

First = Sequence[np.ndarray] | Literal["none"] | None


def load(path: str | Path, *overrides: str, raw_weights: bool = False, device: str = "auto",
         precision: str = "auto") -> TrainedModel:
    """The newest checkpoint of a run folder, a checkpoint, or an export.

    The arguments are those of `vid2vid-generate`: `section.key=value` on top of the run's configuration, the trained
    weights instead of their average, auto | cpu | cuda, auto | fp32 | bf16. Raises `UserError` as it does.
    """
    loaded = load_generator(Path(path), overrides, raw_weights=raw_weights)
    return TrainedModel(loaded, choose_device(device), precision)


class TrainedModel:
    """A trained generator that makes videos of any length, at constant memory."""

    def __init__(self, loaded: LoadedGenerator, device: torch.device, precision: str) -> None:
        self._loaded, self._device = loaded, device
        self._dtype = choose_dtype(precision, loaded.config, device)

    @property
    def config(self) -> Config:
        """The run's configuration."""
        return self._loaded.config

    @property
    def checkpoint(self) -> Path:
        """Where the weights come from."""
        return self._loaded.checkpoint

    def frames(self, label_maps: Iterable[np.ndarray], first: First = None, *,
               instances: Iterable[np.ndarray] | None = None, look: int = 0) -> Iterator[np.ndarray]:
        """A frame (H, W, 3) uint8 for every label map from the n_frames_G-th on: the ones before are what it starts
        from. Maps are read one at a time.

        `label_maps` (h, w) of integer ids, or pictures (h, w, 3) uint8 where the model reads RGB; they are scaled and
        cut as in training. `first`: the n_frames_G - 1 pictures (h, w, 3) uint8 that belong to the first maps, "none"
        to start from nothing, None = as the model was trained. `instances` (h, w) of integer ids, of a model that
        reads them. `look`: which one, of a model with styles.

        Raises:
            UserError: what the model cannot read or cannot start from.
        """
        data, n_past = self.config.data, self.config.generator.n_frames_G - 1
        if task_of(data).labels is None:
            raise UserError(f"this model draws its input itself (data.task={data.task}): use vid2vid-generate")
        if first is None and not self.config.generator.no_first_img:
            raise UserError(f"this model starts from real frames: give first=[…] of {n_past} pictures, or \"none\"")
        pictures = [] if first is None or isinstance(first, str) else list(first)
        if not (first is None or (isinstance(first, str) and first == "none")) and len(pictures) != n_past:
            given = shown(first) if isinstance(first, str) else f"{len(pictures)} pictures"
            raise UserError(f"first is {given}: give {n_past} pictures (h, w, 3) uint8, or \"none\"")
        if data.use_instance and instances is None:
            raise UserError("this model reads instance ids: give instances=…")
        reader = _Reader(data)
        read = reader.read_all(label_maps, instances if data.use_instance else None)
        begin, then = list(islice(read, n_past)), next(read, None)
        if then is None:
            raise UserError(f"{len(begin)} label maps: the first generated frame needs {n_past + 1}")
        styles = choose_styles(StyleOptions((look,)) if self._loaded.generator.netE else StyleOptions(), self._loaded)
        video = VideoGenerator(self._loaded.generator, self.config, self._device, self._dtype)
        images = torch.cat([reader.picture(picture) for picture in pictures])[None] if pictures else None
        video.start([_joined(begin)], images, torch.stack([style.vectors for style in styles]) if styles else None)
        return (image_pictures(video.step([frame]).fake[0].float().cpu())[0] for frame in chain([then], read))


class _Reader:
    """Arrays as the data loader would have given them: one size, checked, scaled and cut."""

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._size: Size | None = None

    def read_all(self, label_maps: Iterable[np.ndarray], instances: Iterable[np.ndarray] | None) -> Iterator[Frames]:
        of_objects = None if instances is None else iter(instances)
        for number, labels in enumerate(label_maps):
            found = None if of_objects is None else next(of_objects, None)
            if of_objects is not None and found is None:
                raise UserError(f"there are {number} maps of instances and more label maps: give one for each")
            yield self.read(np.asarray(labels), None if found is None else np.asarray(found))

    def read(self, labels: np.ndarray, instances: np.ndarray | None = None) -> Frames:
        if n_labels := self._data.label_nc:
            ids = _ids(labels, "label map")
            if ids.max() >= n_labels or ids.min() < 0:
                raise UserError(f"a label map holds ids {ids.min()}..{ids.max()}: they must lie in 0..{n_labels - 1}")
            drawn = self._cut(Image.fromarray(ids.astype(np.uint8)))
        else:
            drawn = self._cut(_rgb(labels))
        found = None
        if instances is not None:
            found = self._cut(Image.fromarray(_ids(instances, "map of instances").astype(np.int32)))
        return Frames(drawn, None, found, [""])

    def picture(self, pixels: np.ndarray) -> torch.Tensor:
        """(1, 3, H, W) in [-1, 1]."""
        return to_float(self._cut(_rgb(np.asarray(pixels))), torch.float32)

    def _cut(self, image: Image.Image) -> torch.Tensor:
        """(1, C, H, W)."""
        self._size = self._size or image.size
        if image.size != self._size:
            raise UserError(f"an array of {by(image.size)} among those of {by(self._size)}: "
                            "all frames of a video are of one size")
        geometry = clip_geometry(image.size, self._data, MIDDLE, may_flip=False)
        return torch.from_numpy(geometry.apply(image)[None])


def _ids(array: np.ndarray, what: str) -> np.ndarray:
    if array.ndim != 2 or array.dtype.kind not in "iu" or not array.size:
        raise UserError(f"a {what} of shape {array.shape} and {array.dtype}: give (h, w) of integers")
    return array


def _rgb(array: np.ndarray) -> Image.Image:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise UserError(f"a picture of shape {array.shape} and {array.dtype}: give (h, w, 3) uint8")
    return Image.fromarray(array)


def _joined(frames: Sequence[Frames]) -> Frames:
    instances = [frame.instances for frame in frames if frame.instances is not None]
    return Frames(torch.cat([frame.labels for frame in frames]), None, torch.cat(instances) if instances else None,
                  [""] * len(frames))


class ShardedVideos(Dataset[dict[str, Any]]):
    """The clips of a shard folder as training draws them: a clip is a function of seed, epoch and number.

    An item holds `video`, `labels` (F, 1 | C, H, W) uint8, `images` (F, 3, H, W) uint8 and, where the configuration
    reads them, `instances` (F, 1, H, W) int32; F is n_frames_G - 1 + `n_frames`. `epoch` may be set between two passes.
    """

    def __init__(self, shards: str | Path, n_frames: int, config: Config | str | Path | None = None, *,
                 split: str = "train", epoch: int = 1) -> None:
        """`config`: how frames are cut and what is read: a configuration, its file or a recipe.

        Raises `UserError` for shards that are missing, damaged or other than the configuration says.
        """
        cfg = config if isinstance(config, Config) else load_config(config)
        data = replace(cfg.data, shards=str(shards))
        self._source = ClipSource(data, cfg.generator.n_frames_G, cfg.run.seed, split)
        self._source.require_chunk(n_frames)
        self._n_frames, self.epoch = n_frames, epoch

    def __len__(self) -> int:
        return self._source.n_clips

    def __getitem__(self, number: int) -> dict[str, Any]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        clip = self._source.clip(self.epoch, number, self._n_frames, self._n_frames)
        frames = self._source.load(Request.span(clip, 0, clip.n_frames))
        tensors = {"labels": frames.labels, "images": frames.images, "instances": frames.instances}
        return {"video": clip.name, **{name: x for name, x in tensors.items() if x is not None}}
