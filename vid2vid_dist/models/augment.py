"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020): colour, translation, cutout.

Real and generated frames of a clip get the same, all frames and the flow between them alike, so that frames keep lying
where the flow points. Channels that are no colours, labels and flow, are moved and cut out with the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FARTHEST = 1 / 8  # of a side that frames are moved by
HOLE = 1 / 2  # of a side that is cut out


@dataclass(frozen=True)
class Augmentation:
    """What happens to one clip. `brightness` is added; `saturation` and `contrast` are factors of the distance to a
    pixel's and a frame's mean; places are uniform numbers in [0, 1), for frames of any size."""

    brightness: float
    saturation: float
    contrast: float
    moved: tuple[float, float]  # down, right
    hole: tuple[float, float]  # top, left

    def __call__(self, x: Tensor, colours: slice) -> Tensor:
        """(N, C, H, W); `colours`: the channels that are pictures of three channels."""
        pictures = x[:, colours].unflatten(1, (-1, 3)) + self.brightness
        pictures = _away_from(pictures, (2,), self.saturation)
        pictures = _away_from(pictures, (2, 3, 4), self.contrast)
        first, behind, _ = colours.indices(x.shape[1])
        x = torch.cat([x[:, :first], pictures.flatten(1, 2), x[:, behind:]], dim=1)
        return self._cut(self._move(x))

    def _move(self, x: Tensor) -> Tensor:
        """What comes in at the border is zero."""
        height, width = x.shape[-2:]
        down, right = (_pick(u, 2 * _share(side, FARTHEST) + 1) - _share(side, FARTHEST)
                       for u, side in zip(self.moved, (height, width), strict=True))
        return F.pad(x, (right, -right, down, -down))

    def _cut(self, x: Tensor) -> Tensor:
        """A hole half as wide and high as the frame, whose centre lies anywhere in it."""
        mask = x.new_ones(x.shape[-2:])
        (top, bottom), (left, right) = (
            (max(0, centre - size // 2), max(0, centre - size // 2 + size))
            for u, side in zip(self.hole, x.shape[-2:], strict=True)
            for centre, size in [(_pick(u, side), _share(side, HOLE))])
        mask[top:bottom, left:right] = 0
        return x * mask


def draw(rng: np.random.Generator, n_clips: int) -> list[Augmentation]:
    """One for every clip."""
    found = []
    for brightness, saturation, contrast, *places in rng.random((n_clips, 7)).tolist():
        down, right, top, left = places
        found.append(Augmentation(brightness - 0.5, 2 * saturation, 0.5 + contrast, (down, right), (top, left)))
    return found


def augmented(x: Tensor, colours: slice, clips: Sequence[Augmentation]) -> Tensor:
    """(N, C, H, W), the rows of each clip one after the other."""
    return torch.cat([augment(rows, colours) for augment, rows in zip(clips, x.chunk(len(clips)), strict=True)])


def _away_from(x: Tensor, dims: tuple[int, ...], factor: float) -> Tensor:
    mean = x.mean(dim=dims, keepdim=True)
    return mean + factor * (x - mean)


def _share(side: int, share: float) -> int:
    return int(side * share + 0.5)


def _pick(u: float, n: int) -> int:
    return int(u * n)
