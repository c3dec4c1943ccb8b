"""From label maps to network input: one-hot, instance edges, pyramid, mask (spec: networks 0 and 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vid2vid_dist.errors import UserError
from vid2vid_dist.models.blocks import halve


def encode_labels(labels: Tensor, instances: Tensor | None, label_nc: int,
                  dtype: torch.dtype = torch.float32) -> Tensor:
    """Input channels of every frame (B, T, Ca, H, W): classes or image first, the instance edges last.

    `labels` (B, T, 1, H, W) of integer ids below `label_nc` (checked when shards are made), or, with
    `label_nc` 0, an image (B, T, C, H, W) in [-1, 1]. `instances` (B, T, 1, H, W) of integer ids, or None.
    """
    if label_nc:
        batch, time, _, height, width = labels.shape
        planes = torch.zeros(batch, time, label_nc, height, width, dtype=dtype, device=labels.device)
        planes.scatter_(2, labels.long(), 1.0)
    else:
        planes = labels.to(dtype)
    if instances is None:
        return planes
    return torch.cat([planes, instance_edges(instances).to(dtype)], dim=2)


def instance_edges(instances: Tensor) -> Tensor:
    """(..., H, W) ids to bool: True where the id differs from the left, right, upper or lower neighbour's."""
    edges = torch.zeros_like(instances, dtype=torch.bool)
    across = instances[..., :, 1:] != instances[..., :, :-1]
    along = instances[..., 1:, :] != instances[..., :-1, :]
    edges[..., :, 1:] |= across
    edges[..., :, :-1] |= across
    edges[..., 1:, :] |= along
    edges[..., :-1, :] |= along
    return edges


def pyramid(x: Tensor, n_scales: int) -> list[Tensor]:
    """(B, T, C, H, W) at every scale, coarsest first: entry s has H / 2**(n_scales - 1 - s) rows.

    Labels are averaged like images, so one-hot planes turn soft at the coarse scales. Raises `UserError`
    when a level that has to be halved has an odd side.
    """
    levels = [x]
    for _ in range(n_scales - 1):
        height, width = levels[0].shape[-2:]
        if height % 2 or width % 2:
            full_height, full_width = x.shape[-2:]
            raise UserError(
                f"frames of {full_width}x{full_height} cannot be halved {n_scales - 1} times: choose a size "
                f"divisible by {2 ** (n_scales - 1)} (data.loadSize, data.fineSize) or a smaller "
                "generator.n_scales_spatial")
        frames = halve(levels[0].flatten(0, 1))
        levels.insert(0, frames.unflatten(0, x.shape[:2]))
    return levels


def foreground_mask(labels: Tensor, fg_labels: Sequence[int]) -> Tensor:
    """Encoded labels of one frame (B, Ca, H, W) to the foreground classes' share (B, 1, H, W) in [0, 1]."""
    return labels[:, list(fg_labels)].sum(dim=1, keepdim=True).clamp(0, 1)
