"""What a data task is: the files of a frame, what the generator is given of them, and what pages show of that.

A task is an object of plain functions. Sizes are (width, height) in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.geometry import Box, Draws, Geometry, Size, clip_geometry
from vid2vid_dist.data.images import IMAGE_SUFFIXES, read_ids_or_rgb, read_rgb, to_float

if TYPE_CHECKING:
    from vid2vid_dist.data.index import ShardIndex
    from vid2vid_dist.data.inputs import FrameFiles


@dataclass(frozen=True)
class Modality:
    """One kind of file of a frame.

    folder: the ending of its folder, as in train_A.
    read: (bytes, name for messages, size of the frame or None where it is not known yet) -> the content, checked: an
    image, or what a text file says. Raises `UserError`.
    """

    folder: str
    read: Callable[[bytes, str, Size | None], Any]
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES

    @property
    def may_be_film(self) -> bool:
        """Whether all frames of a video may lie in one video file: it holds colours, and these not as they were."""
        return self.read in (read_rgb, read_ids_or_rgb)


@dataclass(frozen=True)
class Labels:
    """What a frame's label map is: its kind (`DataTask.kinds`), its largest id, -1 without ids, and the colours of ids
    where its file gives them some."""

    kind: str
    largest: int = -1
    colors: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """Regions of a frame other than classes, which a look has a vector for: how many, 0 included, and (1, H, W) of
    their numbers, cut to a geometry."""

    count: int
    draw: Callable[[FrameFiles, Geometry], np.ndarray]


@dataclass(frozen=True)
class DataTask:
    """Everything that is special about what is turned into video.

    modalities: by name, in the order in which a frame's files are read: those that have a size come first.
    needed: modalities that no video goes without; training needs `images` too.
    inputs: the modalities that the input is drawn from.
    channels: of the input, unless it is label ids.
    draw: (C, H, W) uint8 of one frame, or (1, H, W) ids below data.label_nc. Its last argument gives the random
    numbers of this frame in training; None is generation, where nothing is left out.
    """

    name: str
    modalities: Mapping[str, Modality]
    needed: tuple[str, ...]
    inputs: Callable[[DataConfig], tuple[str, ...]]
    channels: Callable[[DataConfig], int]
    draw: Callable[[FrameFiles, DataConfig, Geometry, np.random.Generator | None], np.ndarray]
    kinds: tuple[str, ...] = ()
    """What the input may be, () = the task's name: shards of one kind only are packed together."""
    labels: Callable[[Image.Image, str, int], Labels] | None = None
    """Of (the content of `labels`, name for messages, label_nc), where these are class ids or pictures; without it
    data.label_nc is 0. Raises `UserError` for ids that are not below a label_nc > 0."""
    check_shards: Callable[[ShardIndex, DataConfig], None] = lambda index, data: None
    """Raises `UserError` for shards that contradict the configuration."""
    box: Callable[[FrameFiles], Box] | None = None
    """The part of a clip's frames that is used, by its first frame; None = all."""
    geometry: Callable[[Size, DataConfig, Draws, bool, Box | None], Geometry] = clip_geometry
    scale: Callable[[Tensor, DataConfig, torch.dtype], Tensor] = lambda drawn, data, dtype: to_float(drawn, dtype)
    """(..., C, H, W) uint8 as drawn -> the generator's input in a number format."""
    view: Callable[[Tensor], Tensor] = lambda inputs: inputs[..., :3, :, :]
    """The generator's input (..., C, H, W) as a picture (..., 1 | 3, H, W) in [-1, 1]."""
    parts: Parts | None = None
    head_marker: Callable[[DataConfig], str] | None = None
    """What marks heads in the input (discriminator.face_marker); None = nothing does."""
    in_python: bool = False
    """Whether frames are drawn by Python code, which threads of one process do by turns."""
    by_length: bool = False
    """An epoch has a clip for every frame that one can begin to generate at, else one of each video."""
    resizable: bool = True
    """Whether frames may be packed at another size: no file holds pixel coordinates."""
    sheet: Callable[[DataConfig, set[str]], DataConfig] = lambda data, modalities: data
    """With the options that draw all that there is of some modalities, for the contact sheet."""
