"""Bilinear backward warp (spec: networks 5)."""

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
    grid = torch.stack([torch.add(x, dx, alpha=2 / (width - 1)), torch.add(y[:, None], dy, alpha=2 / (height - 1))],
                       dim=-1)
    if flow.device.type == "cpu":  # there grid_sample takes NaN for an address and the process dies
        grid = grid.nan_to_num()
    sampled = F.grid_sample(image.to(dtype), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return sampled.to(image.dtype)
