"""Decoded frames to what networks take: the same for training, validation and generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.images import to_float
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.labels import EncodedLabels, encode_labels


def encode_inputs(cfg: Config, frames: Sequence[Frames], device: torch.device, dtype: torch.dtype) -> EncodedLabels:
    """Network input of decoded frames, one entry per clip.

    Raises `UserError` for clips of different size.
    """
    labels = _stack([f.labels for f in frames], device)
    edged = cfg.data.use_instance
    instances = _stack([f.instances for f in frames if f.instances is not None], device) if edged else None
    if not cfg.data.label_nc:
        labels = task_of(cfg.data).scale(labels, cfg.data, dtype)
    styled = cfg.generator.style_nc > 0
    encoded = encode_labels(labels, instances, cfg.data.label_nc, dtype, with_regions=styled)
    if styled and task_of(cfg.data).parts:
        return replace(encoded, regions=_stack([f.instances for f in frames if f.instances is not None], device))
    return encoded


def encode_pictures(frames: list[Frames], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Real pictures (B, F, 3, H, W) in [-1, 1] of decoded frames, one entry per clip; raises like `encode_inputs`."""
    return to_float(_stack([f.images for f in frames if f.images is not None], device), dtype)


def _stack(tensors: list[Tensor], device: torch.device) -> Tensor:
    if len({t.shape for t in tensors}) > 1:
        sizes = sorted({f"{t.shape[-1]}x{t.shape[-2]}" for t in tensors})
        raise UserError(f"clips of different size cannot share a lane ({', '.join(sizes)}): set parallel.batch_size=1, "
                        "or bring them to one size (data.resize_or_crop)")
    return torch.stack(tensors).to(device, non_blocking=True)
