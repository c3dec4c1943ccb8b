"""The tensors that tasks hand to each other, and the shapes that both ends of a message know beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple

import torch


class What(StrEnum):
    """What a tensor shows."""

    IMAGE = "image"  # a generated frame; at the finest scale it is the frame
    RAW = "raw"  # the purely synthesised frame, without the warped part
    FLOW = "flow"  # predicted flow
    WEIGHT = "weight"  # how far the synthesised frame is trusted
    LABELS = "label_features"  # of the label branch
    TRUNK = "trunk"  # features of labels and earlier frames, from which the frame and the flow are made
    SYNTHESISED = "synthesised"  # `raw` before the foreground covers it
    WARPED = "warped"  # the frame before, warped by the predicted flow, and the weight as the fourth channel
    FEATURES = "features"  # last feature map of what is synthesised
    FLOW_FEATURES = "flow_features"  # last feature map for flow and weight
    FOREGROUND = "foreground"  # foreground image
    FG_FEATURES = "fg_features"  # last feature map of the foreground branch
    STYLE = "style"  # how the regions of a frame look
    REFERENCE = "reference"  # reference flow to an earlier frame, and its confidence as the third channel

    def at(self, scale: int) -> TensorKind:
        return TensorKind(self, scale)


class TensorKind(NamedTuple):
    """What travels: `scale` of what exists at several spatial scales, `gap` in frames of reference flow."""

    what: What
    scale: int = 0
    gap: int = 1
    is_gradient: bool = False

    @property
    def gradient(self) -> TensorKind:
        """The gradient of the generator's loss with respect to it, of the same shape."""
        return self._replace(is_gradient=True)

    def __str__(self) -> str:
        scale = f" {self.scale}" if self.scale else ""
        gap = f" over {self.gap} frames" if self.gap > 1 else ""
        return f"{'grad of ' if self.is_gradient else ''}{self.what}{scale}{gap}"


class Part(NamedTuple):
    """A tensor of one frame. Tasks count frames from the chunk's first one, so earlier ones are negative; a clip in
    flight counts them from its own first generated frame."""

    kind: TensorKind
    frame: int

    @property
    def gradient(self) -> Part:
        return self._replace(kind=self.kind.gradient)


RAW, FLOW, WEIGHT = TensorKind(What.RAW), TensorKind(What.FLOW), TensorKind(What.WEIGHT)
image = What.IMAGE.at
reference = partial(TensorKind, What.REFERENCE, 0)  # over a gap


@dataclass(frozen=True)
class FrameSize:
    """Clips of a lane that are normalised together, and the size of their frames in pixels."""

    clips: int
    height: int
    width: int


@dataclass(frozen=True)
class TensorShape:
    """Channels of a tensor, how often its sides are halved from full size, and whether it is never narrower than
    float32."""

    channels: int
    halvings: int = 0
    is_wide: bool = False

    def of(self, size: FrameSize) -> tuple[int, int, int, int]:
        """(B, C, h, w) for the clips of a lane."""
        return size.clips, self.channels, size.height >> self.halvings, size.width >> self.halvings

    def dtype(self, compute: torch.dtype) -> torch.dtype:
        return torch.promote_types(compute, torch.float32) if self.is_wide else compute

    def n_bytes(self, size: FrameSize, compute: torch.dtype) -> int:
        clips, channels, height, width = self.of(size)
        return clips * channels * height * width * self.dtype(compute).itemsize
