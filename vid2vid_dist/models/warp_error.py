"""How much a video flickers: each frame against the one before it, moved by the reference flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vid2vid_dist.models.flow import FlowReference, ReferenceFlow
from vid2vid_dist.models.warp import warp


@dataclass(frozen=True)
class WarpError:
    """`map` (B, 1, H, W) in [0, 1]: mean absolute difference of the colours, 0 where the flow is not trusted.

    `mean` (B,) is over the trusted pixels; NaN where there are none.
    """

    map: Tensor
    mean: Tensor


def warp_error(frame: Tensor, previous: Tensor, reference: FlowReference) -> WarpError:
    """The error between frames (B, 3, H, W) in [-1, 1] that follow each other."""
    difference = (frame - warp(previous, reference.flow)).abs().mean(dim=1, keepdim=True) / 2
    trusted = reference.confidence
    error = difference * trusted
    return WarpError(error, error.sum(dim=(1, 2, 3)) / trusted.sum(dim=(1, 2, 3)))


class WarpErrorMeter:
    """Measures B videos frame by frame. The flow is taken from the real frames where there are some."""

    def __init__(self, flow: ReferenceFlow) -> None:
        self._flow = flow
        self._before: tuple[Tensor, Tensor | None] | None = None

    @torch.no_grad()
    def step(self, frame: Tensor, real: Tensor | None) -> WarpError | None:
        """The error of the next frame (B, 3, H, W) in [-1, 1]; None for the first one."""
        before, self._before = self._before, (frame, real)
        if before is None:
            return None
        previous, real_previous = before
        if real is None or real_previous is None:
            return warp_error(frame, previous, self._flow(frame, previous))
        return warp_error(frame, previous, self._flow(real, real_previous))
