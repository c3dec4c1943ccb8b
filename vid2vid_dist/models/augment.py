"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020): colour, translation, cutout.

Real and generated frames of a clip get the same, all frames and the flow between them alike, so that frames keep lying
where the flow points. Channels that are no colours, labels and flow, are moved and cut out with the pixels.

Adaptive (Karras et al. 2020): each of the three happens with a probability, the `strength` of a discriminator. It is
one of its weights, and learns like them, from whether too many real patches are taken for real.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FARTHEST = 1 / 8  # of a side that frames are moved by
HOLE = 1 / 2  # of a side that is cut out
TARGET = 0.6  # mean sign of the scores of real patches, from the middle between real and generated


@dataclass(frozen=True)
class Augmentation:
    """What happens to one clip. `brightness` is added; `saturation` and `contrast` are factors of the distance to a
    pixel's and a frame's mean; places are uniform numbers in [0, 1), for frames of any size. `chances`, uniform as
    well, of colours, move and hole: below the strength it happens."""

    brightness: float
    saturation: float
    contrast: float
    moved: tuple[float, float]  # down, right
    hole: tuple[float, float]  # top, left
    chances: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __call__(self, x: Tensor, colours: slice, strength: Tensor | None = None) -> Tensor:
        """(N, C, H, W); `colours`: the channels that are pictures of three channels. `strength` (1,) stays on the
        device: nobody waits for it. None: everything happens."""
        coloured, moved, cut = (1.0, 1.0, 1.0) if strength is None else (
            (strength > chance).to(x.dtype) for chance in self.chances)
        pictures = x[:, colours].unflatten(1, (-1, 3)) + coloured * self.brightness
        pictures = _away_from(pictures, (2,), coloured * (self.saturation - 1))
        pictures = _away_from(pictures, (2, 3, 4), coloured * (self.contrast - 1))
        first, behind, _ = colours.indices(x.shape[1])
        x = torch.cat([x[:, :first], pictures.flatten(1, 2), x[:, behind:]], dim=1)
        x = self._move(x) if isinstance(moved, float) else torch.where(moved > 0, self._move(x), x)
        return self._cut(x, 1 - cut)

    def _move(self, x: Tensor) -> Tensor:
        """What comes in at the border is zero."""
        height, width = x.shape[-2:]
        down, right = (_pick(u, 2 * _share(side, FARTHEST) + 1) - _share(side, FARTHEST)
                       for u, side in zip(self.moved, (height, width), strict=True))
        return F.pad(x, (right, -right, down, -down))

    def _cut(self, x: Tensor, left_over: float | Tensor) -> Tensor:
        """A hole half as wide and high as the frame, whose centre lies anywhere in it."""
        mask = x.new_ones(x.shape[-2:])
        (top, bottom), (left, right) = (
            (max(0, centre - size // 2), max(0, centre - size // 2 + size))
            for u, side in zip(self.hole, x.shape[-2:], strict=True)
            for centre, size in [(_pick(u, side), _share(side, HOLE))])
        mask[top:bottom, left:right] = left_over
        return x * mask


def draw(rng: np.random.Generator, n_clips: int) -> list[Augmentation]:
    """One for every clip."""
    found = []
    for brightness, saturation, contrast, *places, colour, move, cut in rng.random((n_clips, 10)).tolist():
        down, right, top, left = places
        found.append(Augmentation(brightness - 0.5, 2 * saturation, 0.5 + contrast, (down, right), (top, left),
                                  (colour, move, cut)))
    return found


def augmented(x: Tensor, colours: slice, clips: Sequence[Augmentation], strength: Tensor | None = None) -> Tensor:
    """(N, C, H, W), the rows of each clip one after the other."""
    return torch.cat([augment(rows, colours, strength)
                      for augment, rows in zip(clips, x.chunk(len(clips)), strict=True)])


def strength_loss(strength: Tensor, real_scores: Tensor, middle: float) -> Tensor:
    """What moves the strength (1,) in [0, 1], without pushing it beyond: up where more real patches than `TARGET` are
    taken for real. Its value says nothing, its gradient is how far from the target they are."""
    wide = real_scores.detach().to(torch.promote_types(real_scores.dtype, torch.float32))
    too_few = TARGET - (wide - middle).sign().mean()
    now = strength.detach()
    free = torch.where(too_few > 0, now > 0, now < 1)
    return (strength * free * too_few).sum()


def _away_from(x: Tensor, dims: tuple[int, ...], share: float | Tensor) -> Tensor:
    """By this share of the distance to the mean; 0 leaves everything as it is, bit by bit."""
    return x + share * (x - x.mean(dim=dims, keepdim=True))


def _share(side: int, share: float) -> int:
    return int(side * share + 0.5)


def _pick(u: float, n: int) -> int:
    return int(u * n)
