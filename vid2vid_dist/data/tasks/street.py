"""Label maps, or pictures, that become video (spec: data 3-5)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.geometry import Geometry
from vid2vid_dist.data.images import as_rgb, ids_within, read_ids, read_ids_or_rgb, read_rgb, to_array
from vid2vid_dist.data.tasks.base import DataTask, Labels, Modality
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import shown

if TYPE_CHECKING:
    from vid2vid_dist.data.index import ShardIndex
    from vid2vid_dist.data.inputs import FrameFiles

log = logging.getLogger(__name__)


def _labels(image: Image.Image, where: str, label_nc: int) -> Labels:
    if image.mode == "RGB":
        if label_nc:
            raise UserError(f"{where} is RGB, but with label_nc={label_nc} a label map is one channel of ids: convert "
                            "it, or pack pictures without label_nc")
        return Labels("rgb")
    largest = int(to_array(image).max())
    if label_nc and largest >= label_nc:
        ids = ", ".join(map(str, ids_within(image, label_nc, 2**31)[:8]))
        raise UserError(f"{where}: label id {ids} is not below label_nc={label_nc}: raise it or relabel the file")
    if image.mode != "P" or (palette := image.getpalette()) is None:
        return Labels("ids", largest)
    colors = {i: tuple(palette[3 * i : 3 * i + 3]) for i in ids_within(image, 0, 256)}
    if all(len({*color}) == 1 for color in colors.values()) and any(i != color[0] for i, color in colors.items()):
        raise UserError(f"{where} has a palette of greys, {shown(list(colors.values()))} for {shown(list(colors))}: "
                        "which are the ids? Store one channel without a palette")
    return Labels("ids", largest, colors)


def _draw(files: FrameFiles, data: DataConfig, geometry: Geometry, rng: np.random.Generator | None) -> np.ndarray:
    """A label map or an RGB frame, checked for what its index may hide."""
    image = files.picture("labels") if data.label_nc else as_rgb(files.picture("labels"))
    if data.label_nc and image.mode == "RGB":
        raise UserError(f"{files.where('labels')}: RGB among label maps of one channel: pack the shards again")
    array = geometry.apply(image)
    if data.label_nc and array.max() >= data.label_nc:
        raise UserError(f"{files.where('labels')}: label id {array.max()} is not below data.label_nc={data.label_nc}, "
                        "and its index hides it: pack the shards again")
    return array


def _check_shards(index: ShardIndex, data: DataConfig) -> None:
    if data.label_nc and index.input_kind == "rgb":
        raise UserError(f"{index.folder} holds RGB input but data.label_nc={data.label_nc}: set data.label_nc=0 "
                        "(and data.input_nc=3), or pack label maps of one channel")
    if not data.label_nc and index.input_kind != "rgb":
        log.warning("%s holds one channel, which data.label_nc=0 takes as grey pictures", index.folder)
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
