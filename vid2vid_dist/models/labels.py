"""From label maps to network input: classes, instance edges, pyramid, mask (spec: networks 0 and 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from vid2vid_dist.errors import UserError
from vid2vid_dist.models.blocks import halve


class Extent(NamedTuple):
    """The rows top..bottom and columns left..right between which something is marked."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class EncodedLabels:
    """What the networks are given of each frame: the class of every pixel, and the planes that are not classes.

    `planes` (B, T, C, H, W): instance edges (C may be 0), or with `ids` None everything: an image, or one-hot
    classes averaged for a coarse scale. `ids` (B, T, 1, H, W): integer classes below `n_classes`. One-hot
    planes would take 35 times the memory, so ids are expanded only where and when a network needs them.
    `regions` (B, T, 1, H, W): integer ids of what has one look, with styles only. `style` (B, S, H, W): how the
    newest frame looks; only windows that go into a network have it. `faces`: where each of the T frames, of all clips,
    marks a face, None where it does not; () where nobody asks.
    """

    planes: Tensor
    ids: Tensor | None = None
    n_classes: int = 0
    regions: Tensor | None = None
    style: Tensor | None = None
    faces: tuple[Extent | None, ...] = ()

    def dense(self) -> Tensor:
        """(B, T, n_classes + C, H, W): one-hot classes first."""
        if self.ids is None:
            return self.planes
        classes = one_hot(self.ids, self.n_classes, self.planes.dtype)
        return torch.cat([classes, self.planes], dim=2) if self.planes.shape[2] else classes

    def frames(self, these: slice) -> EncodedLabels:
        """Some of the T frames; no copy."""
        return replace(self._each(lambda x: x[:, these]), faces=self.faces[these])

    def clips(self, rows: Tensor) -> EncodedLabels:
        """Some of the B clips, by their numbers (integers)."""
        return self._each(lambda x: x[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> EncodedLabels:
        assert self.style is None, "of one frame, in a window"
        ids, regions = (None if x is None else change(x) for x in (self.ids, self.regions))
        return replace(self, planes=change(self.planes), ids=ids, regions=regions)

    @property
    def n_frames(self) -> int:
        return self.planes.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.planes.shape[-1], self.planes.shape[-2]


def one_hot(ids: Tensor, n_classes: int, dtype: torch.dtype) -> Tensor:
    """(..., 1, H, W) integer ids to planes (..., n_classes, H, W)."""
    planes = torch.zeros(*ids.shape[:-3], n_classes, *ids.shape[-2:], dtype=dtype, device=ids.device)
    return planes.scatter_(-3, ids.long(), 1.0)


def join_frames(parts: Sequence[EncodedLabels]) -> EncodedLabels:
    """Frames of one clip one after the other."""
    ids = [x.ids for x in parts if x.ids is not None]
    regions = [x.regions for x in parts if x.regions is not None]
    return replace(parts[0], planes=torch.cat([x.planes for x in parts], dim=1),
                   ids=torch.cat(ids, dim=1) if ids else None, regions=torch.cat(regions, dim=1) if regions else None,
                   faces=tuple(face for x in parts for face in x.faces))


def encode_labels(labels: Tensor, instances: Tensor | None, label_nc: int,
                  dtype: torch.dtype = torch.float32, *, with_regions: bool = False) -> EncodedLabels:
    """Classes or image, and the instance edges as a last plane; instances, else classes, as `regions` if wanted.

    `labels` (B, T, 1, H, W) of integer ids below `label_nc` (checked when shards are made), or, with
    `label_nc` 0, an image (B, T, C, H, W) in [-1, 1]. `instances` (B, T, 1, H, W) of integer ids, or None.
    """
    edges = [] if instances is None else [instance_edges(instances).to(dtype)]
    if not label_nc:
        return EncodedLabels(torch.cat([labels.to(dtype), *edges], dim=2))
    planes = edges[0] if edges else torch.empty_like(labels[:, :, :0], dtype=dtype)
    regions = labels if instances is None else instances
    return EncodedLabels(planes, labels, label_nc, regions if with_regions else None)


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


def label_pyramid(labels: EncodedLabels, n_scales: int) -> list[EncodedLabels]:
    """Labels at every scale, coarsest first: dense where they are averaged, as they are at the finest scale.

    One frame at a time: one-hot planes of all frames at full size would be the largest tensor of a step.
    """
    if n_scales == 1:
        return [labels]
    frames = [pyramid(labels.frames(slice(t, t + 1)).dense(), n_scales)[:-1] for t in range(labels.n_frames)]
    return [*(EncodedLabels(torch.cat(scale, dim=1)) for scale in zip(*frames, strict=True)), labels]


def foreground_mask(labels: EncodedLabels, fg_labels: Sequence[int]) -> Tensor:
    """The newest frame's share of the foreground classes (B, 1, H, W) in [0, 1]."""
    if labels.ids is None:
        shares = [labels.planes[:, -1, i] for i in fg_labels]
        return torch.stack(shares, dim=1).sum(dim=1, keepdim=True).clamp(0, 1)
    # Class by class: a list of them would have to be copied to the device, for which the host waits.
    return torch.stack([labels.ids[:, -1] == i for i in fg_labels]).any(dim=0).to(labels.planes.dtype)
