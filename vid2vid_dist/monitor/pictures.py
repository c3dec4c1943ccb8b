"""Tensors become 8-bit pictures (spec: inference 4).

Every function turns a clip `(T, C, H, W)` into an array `(T, H, W, 3)` of uint8 RGB.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.palette import label_colors
from vid2vid_dist.data.tasks.registry import task_of


def colorize_labels(labels: Tensor, label_nc: int) -> np.ndarray:
    """Class ids `(T, 1, H, W)` in their colours; ids outside 0..label_nc-1 are black."""
    ids = labels[:, 0].long().numpy()
    colors = np.vstack([label_colors(label_nc), np.zeros((1, 3), np.uint8)])
    return colors[np.where((ids < 0) | (ids >= label_nc), label_nc, ids)]


def input_pictures(drawn: Tensor, data: DataConfig) -> np.ndarray:
    """Inputs `(T, C, H, W)` uint8 as decoded: classes in their colours, or the picture that is drawn for the task."""
    if data.label_nc:
        return colorize_labels(drawn, data.label_nc)
    task = task_of(data)
    return image_pictures(task.view(task.scale(drawn, data, torch.float32)))


def image_pictures(images: Tensor) -> np.ndarray:
    """Images `(T, C, H, W)` in [-1, 1], C = 1 or >= 3 (the first three are shown). Truncated, not rounded."""
    pixels = ((images.float() + 1) / 2.0).mul_(255.0).clamp_(0, 255).byte()
    planes = pixels[:, : 3 if pixels.shape[1] >= 3 else 1].movedim(1, 0).numpy()
    out = np.empty((*planes.shape[1:], 3), np.uint8)
    for channel in range(3):  # three times as fast as numpy's copy of the transposed array
        out[..., channel] = planes[min(channel, len(planes) - 1)]
    return out


def unit_pictures(maps: Tensor) -> np.ndarray:
    """Maps `(T, 1, H, W)` in [0, 1], such as weights and confidences, as grey."""
    grey = np.clip(_channels_last(maps) * 255.0, 0, 255).astype(np.uint8)
    return np.repeat(grey, 3, axis=-1)


def heat_pictures(maps: Tensor, scale: float) -> np.ndarray:
    """Maps `(T, 1, H, W)` of errors from 0, black, over violet and orange to `scale` and above, pale yellow."""
    import cv2  # here: the other pictures go without OpenCV

    levels = np.clip(_channels_last(maps)[..., 0] / scale * 255.0, 0, 255).astype(np.uint8)
    return np.stack([cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[..., ::-1] for level in levels])


def flow_scale(*flows: Tensor | None) -> float:
    """The largest motion, in pixels, of some flows `(T, 2, H, W)`: on one scale they can be compared."""
    return max((float(flow.float().norm(dim=1).max()) for flow in flows if flow is not None), default=0.0)


def flow_pictures(flow: Tensor, scale: float) -> np.ndarray:
    """Flow `(T, 2, H, W)` in pixels: direction as hue (right is red), magnitude / `scale` as brightness.

    The original stretches every frame by itself; one scale in pixels keeps the frames of a clip comparable.
    """
    x, y = np.moveaxis(flow.float().numpy(), 1, 0)
    hue = np.degrees(np.arctan2(y, x)) % 360
    value = np.clip(np.hypot(x, y) / max(scale, 1e-6), 0, 1)
    # HSV to RGB at full saturation, one channel after the other.
    sector = [(n + hue / 60) % 6 for n in (5, 3, 1)]
    rgb = [value * (1 - np.clip(np.minimum(k, 4 - k), 0, 1)) for k in sector]
    return (np.stack(rgb, axis=-1) * 255).astype(np.uint8)


def tile(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Clips `(T, H, W, 3)` of one size side by side; more than three stand in two rows."""
    columns = tile_columns(len(panels))
    panels = [*panels, *[np.zeros_like(panels[0])] * (-len(panels) % columns)]
    rows = [np.concatenate(panels[i : i + columns], axis=2) for i in range(0, len(panels), columns)]
    return np.concatenate(rows, axis=1)


def tile_columns(n: int) -> int:
    """How many of n panels stand in a row of `tile`."""
    return n if n <= 3 else math.ceil(n / 2)


def reduced(frames: np.ndarray, panel_width: int, limit: int) -> np.ndarray:
    """Frames `(T, H, W, 3)` brought down by a whole factor until panels are at most `limit` pixels wide."""
    factor = math.ceil(panel_width / limit)
    return np.stack([np.asarray(Image.fromarray(frame).reduce(factor)) for frame in frames])


def _channels_last(x: Tensor) -> np.ndarray:
    return np.moveaxis(x.float().numpy(), 1, -1)
