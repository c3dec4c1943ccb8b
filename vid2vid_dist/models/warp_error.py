"""How much a video flickers: each frame against the one before it, moved by the reference flow."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vid2vid_dist.models.flow import FlowReference, ReferenceFlow
from vid2vid_dist.models.warp import warp

FIGURES = "warp error", "warp error of the real"
"""Names of what a meter finds, row by row."""


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
    """Measures a video frame by frame, and the real one beside it, by the flow of the real one where there is one."""

    def __init__(self, flow: ReferenceFlow) -> None:
        self._flow = flow
        self._before: tuple[Tensor, Tensor | None] | None = None

    @torch.no_grad()
    def step(self, frame: Tensor, real: Tensor | None) -> WarpError | None:
        """The error of the next frame and, in a second row, of the real one, (1, 3, H, W) in [-1, 1]; None for the
        first ones."""
        before, self._before = self._before, (frame, real)
        if before is None:
            return None
        now, previous = [frame], [before[0]]
        if real is not None and before[1] is not None:
            now, previous = [frame, real], [before[0], before[1]]
        found = self._flow(now[-1], previous[-1])
        shape = (len(now), -1, -1, -1)
        return warp_error(torch.cat(now), torch.cat(previous),
                          FlowReference(found.flow.expand(shape), found.confidence.expand(shape)))
