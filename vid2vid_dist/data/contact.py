"""The contact sheet of a shard folder: worth a look before training."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.geometry import Geometry
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.inputs import FrameFiles
from vid2vid_dist.data.palette import label_colors

CONTACT_SHEET = "contact_sheet.png"
"""Its name in a folder."""
MAX_ROWS = 16
CELL_WIDTH = 240
CAPTION = 18
INPUT = "input"
"""What is drawn of files that are no pictures."""


def contact_sheet(index: ShardIndex) -> Image.Image:
    """One row per video (the first ones): label colours, image and instance edges of two of its frames."""
    modalities = ["labels" if index.has("labels") else INPUT, *(m for m in ("images", "instances") if index.has(m))]
    rows = [_row(index, number, modalities) for number in range(min(len(index.videos), MAX_ROWS))]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _row(index: ShardIndex, number: int, modalities: list[str]) -> Image.Image:
    video = index.videos[number]
    size = CELL_WIDTH, max(1, round(CELL_WIDTH * video.size[1] / video.size[0]))
    frames = sorted({0, len(video.frames) // 2})
    row = Image.new("RGB", (2 * len(modalities) * CELL_WIDTH, size[1] + CAPTION), "white")
    caption = f"{video.name}   {video.size[0]}x{video.size[1]}, {len(video.frames)} frames: " + ", ".join(
        video.frames[frame] for frame in frames
    )
    ImageDraw.Draw(row).text((4, 2), caption, "black", ImageFont.load_default(12))
    for i, frame in enumerate(frames):
        for j, modality in enumerate(modalities):
            geometry = Geometry(size, (0, 0), (0, 0), flip=False)
            if modality == INPUT:
                picture = _drawn(index, number, frame, geometry)
            else:
                picture = _picture(geometry.apply(FrameFiles(index, number, frame).picture(modality)), modality)
            cell = Image.fromarray(np.ascontiguousarray(picture))
            row.paste(cell, ((i * len(modalities) + j) * CELL_WIDTH, CAPTION))
    return row


def _drawn(index: ShardIndex, number: int, frame: int, geometry: Geometry) -> np.ndarray:
    """(H, W, 3) uint8 of the input of a whole frame, all that the shards have of it."""
    task = index.task
    data = task.sheet(DataConfig(task=task.name, label_nc=0), index.modalities)
    drawn = torch.from_numpy(task.draw(FrameFiles(index, number, frame), data, geometry, None))
    picture = task.view(task.scale(drawn, data, torch.float32))
    return ((picture + 1) * 127.5).to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).numpy()


def _picture(array: np.ndarray, modality: str) -> np.ndarray:
    """(C, H, W) of one modality -> (H, W, 3) uint8 to look at."""
    if array.shape[0] == 3:
        return array.transpose(1, 2, 0)
    ids = array[0]
    if modality == "labels":
        return label_colors(35 if ids.max() < 35 else 256)[np.minimum(ids, 255)]
    edges = np.zeros(ids.shape, bool)
    edges[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edges[1:] |= ids[1:] != ids[:-1]
    return np.repeat(np.where(edges, 255, 40).astype(np.uint8)[..., None], 3, axis=2)
