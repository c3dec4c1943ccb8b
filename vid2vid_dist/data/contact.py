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
    modalities = ["labels" if "labels" in index.modalities else INPUT,
                  *(m for m in ("images", "instances") if m in index.modalities)]
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
    geometry = Geometry(size)
    for i, frame in enumerate(frames):
        files = FrameFiles(index, number, frame)
        for j, modality in enumerate(modalities):
            if modality == INPUT:
                cell = _drawn(index, files, geometry)
            else:
                cell = _picture(geometry.cut(files.picture(modality)), modality)
            row.paste(cell, ((i * len(modalities) + j) * CELL_WIDTH, CAPTION))
    return row


def _drawn(index: ShardIndex, files: FrameFiles, geometry: Geometry) -> Image.Image:
    """RGB of the input of a whole frame, all that the shards have of it."""
    task = index.task
    data = task.sheet(DataConfig(task=task.name, label_nc=0), index.modalities)
    drawn = torch.from_numpy(task.draw(files, data, geometry, None))
    picture = task.view(task.scale(drawn, data, torch.float32))
    pixels = ((picture + 1) * 127.5).to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0)
    return Image.fromarray(pixels.contiguous().numpy())


def _picture(image: Image.Image, modality: str) -> Image.Image:
    """RGB of one modality, to look at."""
    if image.mode == "RGB":
        return image
    ids = np.asarray(image)
    if modality == "labels":
        return Image.fromarray(label_colors(35 if ids.max() < 35 else 256)[np.minimum(ids, 255)])
    edges = np.zeros(ids.shape, bool)
    edges[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edges[1:] |= ids[1:] != ids[:-1]
    return Image.fromarray(np.where(edges, 255, 40).astype(np.uint8))
