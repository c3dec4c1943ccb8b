"""Decoded frames to what networks take: the same for training, validation and generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.data.images import to_float
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.errors import UserError
from vid2vid_dist.losses import face_extent
from vid2vid_dist.models.flow import dis_flow
from vid2vid_dist.models.labels import EncodedLabels, Extent, encode_labels


def encode_inputs(cfg: Config, frames: Sequence[Frames], device: torch.device, dtype: torch.dtype) -> EncodedLabels:
    """Network input of decoded frames, one entry per clip.

    Raises `UserError` for clips of different size.
    """
    labels = stacked([f.labels for f in frames], device)
    edged = cfg.data.use_instance
    instances = stacked([f.instances for f in frames if f.instances is not None], device) if edged else None
    if not cfg.data.label_nc:
        labels = task_of(cfg.data).scale(labels, cfg.data, dtype)
    faces = _faces(cfg, frames) if cfg.discriminator.add_face_disc else ()
    styled = cfg.generator.style_nc > 0
    encoded = encode_labels(labels, instances, cfg.data.label_nc, dtype, with_regions=styled)
    if styled and task_of(cfg.data).parts:
        encoded = replace(encoded, regions=stacked([f.instances for f in frames if f.instances is not None], device))
    return replace(encoded, faces=faces)


def _faces(cfg: Config, frames: Sequence[Frames]) -> tuple[Extent | None, ...]:
    """Where the frames mark a face, read off what is drawn, on the CPU."""
    drawn = task_of(cfg.data).scale(torch.stack([f.labels[:, :3] for f in frames], dim=1), cfg.data, torch.float32)
    return tuple(face_extent(of_frame, cfg.discriminator.face_marker == "openpose") for of_frame in drawn)


def encode_pictures(frames: list[Frames], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Real pictures (B, F, 3, H, W) in [-1, 1] of decoded frames, one entry per clip; raises like `encode_inputs`."""
    return to_float(stacked([f.images for f in frames if f.images is not None], device), dtype)


def encode_flows(frames: list[Frames], device: torch.device) -> Tensor:
    """Flow (B, P, 2, H, W) in pixels that `FrameLoader` has found, one entry per clip."""
    return stacked([f.flows for f in frames if f.flows is not None], device)


@dataclass(frozen=True)
class FrameLoader:
    """Decodes frames and finds the flow that is wanted between them: where it runs, CPUs do this beside a GPU."""

    source: ClipSource

    def opener(self) -> Callable[[], FrameLoader]:
        """As `ClipSource.opener`."""
        return partial(_frame_loader, self.source.opener())

    def load(self, request: Request) -> Frames:
        """As `ClipSource.load`."""
        if not request.flows:
            return self.source.load(request)
        pairs = [(number, number - gap) for number, gap in request.flows]
        numbers = sorted({*request.images, *(number for pair in pairs for number in pair)})
        loaded = self.source.load(replace(request, images=numbers))
        assert loaded.images is not None
        picture = dict(zip(numbers, loaded.images, strict=True))
        flows = torch.stack([dis_flow(picture[now], picture[before]) for now, before in pairs])
        return replace(loaded, images=loaded.images[[numbers.index(i) for i in request.images]], flows=flows)


def _frame_loader(open_source: Callable[[], ClipSource]) -> FrameLoader:
    return FrameLoader(open_source())


def stacked(tensors: list[Tensor], device: torch.device) -> Tensor:
    """One batch of what was decoded, on the device; the host does not wait for it. Raises like `encode_inputs`."""
    if len({t.shape for t in tensors}) > 1:
        sizes = sorted({f"{t.shape[-1]}x{t.shape[-2]}" for t in tensors})
        raise UserError(f"clips of different size cannot share a lane ({', '.join(sizes)}): set parallel.batch_size=1, "
                        "or bring them to one size (data.resize_or_crop)")
    # PyTorch keeps pinned memory for the next batch; from any other the host would wait for the copy.
    first = tensors[0]
    batch = torch.empty(len(tensors), *first.shape, dtype=first.dtype, device=first.device,
                        pin_memory=device.type == "cuda")
    return torch.stack(tensors, out=batch).to(device, non_blocking=True)
