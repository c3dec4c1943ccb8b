"""Bilinear backward warp (spec: networks 5)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """`out(x, y) = image(x + flow_x, y + flow_y)`, coordinates clamped to the image.

    `image` (B, C, H, W); `flow` (B, 2, H, W) in pixels, x first (right), then y (down). Positions are
    computed in float32 at least: bfloat16 cannot tell neighbouring pixels of a wide image apart.
    """
    height, width = image.shape[-2:]
    dtype = torch.promote_types(flow.dtype, torch.float32)
    x = torch.linspace(-1, 1, width, dtype=dtype, device=flow.device)
    y = torch.linspace(-1, 1, height, dtype=dtype, device=flow.device)
    dx, dy = flow.to(dtype).unbind(1)
    grid = torch.stack([x + dx / ((width - 1) / 2), y[:, None] + dy / ((height - 1) / 2)], dim=-1)
    grid = grid.nan_to_num()  # on CPUs grid_sample takes NaN for an address and the process dies
    sampled = F.grid_sample(image.to(dtype), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return sampled.to(image.dtype)
