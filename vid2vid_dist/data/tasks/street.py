"""Label maps, or pictures, that become video (spec: data 3-5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.geometry import Geometry
from vid2vid_dist.data.images import read_ids, read_ids_or_rgb, read_rgb, to_array
from vid2vid_dist.data.tasks.base import DataTask, Labels, Modality
from vid2vid_dist.errors import UserError

if TYPE_CHECKING:
    from vid2vid_dist.data.index import ShardIndex
    from vid2vid_dist.data.inputs import FrameFiles


def _labels(image: Image.Image) -> Labels:
    return Labels("rgb") if image.mode == "RGB" else Labels("ids", int(to_array(image).max()))


def _draw(files: FrameFiles, data: DataConfig, geometry: Geometry, rng: np.random.Generator | None) -> np.ndarray:
    """A label map or an RGB frame, checked for what its index may hide."""
    image = files.picture("labels")
    if (image.mode == "RGB") == bool(data.label_nc):
        kinds = "RGB among label maps of one channel" if image.mode == "RGB" else "one channel among RGB frames"
        raise UserError(f"{files.where('labels')}: {kinds}: pack the shards again")
    array = geometry.apply(image)
    if data.label_nc and array.max() >= data.label_nc:
        raise UserError(f"{files.where('labels')}: label id {array.max()} is not below data.label_nc={data.label_nc}, "
                        "and its index hides it: pack the shards again")
    return array


def _check_shards(index: ShardIndex, data: DataConfig) -> None:
    if data.label_nc and index.input_kind == "rgb":
        raise UserError(f"{index.folder} holds RGB input but data.label_nc={data.label_nc}: set data.label_nc=0 "
                        "(and data.input_nc=3), or pack label maps of one channel")
    if not data.label_nc and (index.input_kind != "rgb" or data.input_nc != 3):
        raise UserError(f"data.label_nc=0 needs RGB input with data.input_nc=3; {index.folder} holds "
                        f"{index.input_kind} input and data.input_nc={data.input_nc}")
    if data.label_nc and index.largest_label >= data.label_nc:
        raise UserError(f"{index.folder}: label id {index.largest_label} in {index.largest_label_at} is not below "
                        f"data.label_nc={data.label_nc}: raise data.label_nc or relabel the file")


STREET = DataTask(
    name="street",
    modalities={
        "labels": Modality("A", read_ids_or_rgb),
        "images": Modality("B", read_rgb),
        "instances": Modality("inst", read_ids),
    },
    needed=("labels",),
    inputs=lambda data: ("labels",),
    channels=lambda data: 3,
    draw=_draw,
    kinds=("ids", "rgb"),
    labels=_labels,
    check_shards=_check_shards,
)
