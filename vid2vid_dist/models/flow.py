"""Reference optical flow from a frozen network, and how far to trust it (spec: losses 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vid2vid_dist.config.schema import FlowConfig
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.warp import warp
from vid2vid_dist.models.weights import load_published

MAX_ERROR = 0.02  # squared RGB difference, in [-1, 1] units, up to which a warped pixel is trusted


@dataclass
class FlowReference:
    """Backward flow `flow` (..., 2, H, W) in pixels and `confidence` (..., 1, H, W) in [0, 1]."""

    flow: Tensor
    confidence: Tensor


class DisFlow(nn.Module):
    """OpenCV's dense inverse search on grey images: no weights, any size, computed on the CPU."""

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow (N, 2, H, W) from `current` to `previous`, both (N, 3, H, W) in [-1, 1]."""
        return torch.stack([dis_flow(*pair) for pair in zip(_pixels(current), _pixels(previous), strict=True)]).to(
            current)


def dis_flow(current: Tensor, previous: Tensor) -> Tensor:
    """Flow (2, H, W) in pixels from a picture to the one before it, both (3, H, W) uint8 on the CPU."""
    import cv2  # here: networks without a reference flow go without OpenCV

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    now, before = (cv2.cvtColor(x.permute(1, 2, 0).contiguous().numpy(), cv2.COLOR_RGB2GRAY)
                   for x in (current, previous))
    return torch.from_numpy(search.calc(now, before, np.zeros((*now.shape, 2), np.float32))).permute(2, 0, 1)


def _pixels(images: Tensor) -> Tensor:
    """(N, 3, H, W) in [-1, 1] to uint8 on the CPU."""
    return ((images + 1) * 127.5).round().clamp(0, 255).byte().cpu()


class RaftFlow(nn.Module):
    """torchvision's RAFT, large or small, in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """Multiples of 8, and at least 128: the coarsest correlation map needs 2 x 2 cells."""
        return max(128, height // 8 * 8), max(128, width // 8 * 8)

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow (N, 2, H, W) from `current` to `previous`, both (N, 3, H, W) in [-1, 1]."""
        flow = self.network(current.float(), previous.float())[-1].to(current.dtype)
        # torchvision keeps the volume of all pairs until the next call: 5.7 GB at 2048x1024.
        self.network.corr_block.corr_pyramid = []  # type: ignore[union-attr]
        return flow


class NoFlow(nn.Module):
    """In the place of a `ReferenceFlow` where nobody reads it: no motion, trusted nowhere."""

    def forward(self, current: Tensor, previous: Tensor) -> FlowReference:
        """Zeros in the shapes of `ReferenceFlow`."""
        flow = torch.zeros_like(current[..., :2, :, :], dtype=torch.promote_types(current.dtype, torch.float32))
        return FlowReference(flow, torch.zeros_like(flow[..., :1, :, :]))


class ReferenceFlow(nn.Module):
    """`current(x, y)` lies at `previous(x + flow_x, y + flow_y)`: backward flow on the current frame's grid.

    Frames whose size the network cannot take are resized for it, and the flow back, each axis by its own
    ratio. Pixels are trusted where the previous frame, warped by the flow, meets the current one.
    """

    def __init__(self, network: DisFlow | RaftFlow) -> None:
        super().__init__()
        self.network = network
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> ReferenceFlow:
        """Stay in eval mode: the network is never trained, and its norm layers use their own statistics."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, current: Tensor, previous: Tensor, flow: Tensor | None = None) -> FlowReference:
        """Images (N, 3, H, W) or (B, T, 3, H, W) in [-1, 1]; the result has the same leading axes. `flow`: where the
        network has found it before.

        Computed in float32 at least; no gradient.
        """
        if current.dim() == 5:
            folded = self(current.flatten(0, 1), previous.flatten(0, 1), None if flow is None else flow.flatten(0, 1))
            lead = current.shape[:2]
            return FlowReference(folded.flow.unflatten(0, lead), folded.confidence.unflatten(0, lead))
        dtype = torch.promote_types(current.dtype, torch.float32)
        current, previous = current.to(dtype), previous.to(dtype)
        full = height, width = current.shape[-2], current.shape[-1]
        size = self.network.size_for(height, width)
        if size != full:
            current, previous = _resize(current, size), _resize(previous, size)
        flow = self.network(current, previous) if flow is None else flow.to(dtype)
        error = (current - warp(previous, flow)).square().sum(dim=1, keepdim=True)
        confidence = (error < MAX_ERROR).to(dtype)
        if size != full:
            ratio = flow.new_tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)
            flow, confidence = _resize(flow, full) * ratio, _resize(confidence, full)
        return FlowReference(flow, confidence)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def raft_network(name: str) -> nn.Module:
    """torchvision's network that `flow.network` names, without weights."""
    from vid2vid_dist.models._torchvision import models  # here: other flows go without torchvision

    build = {"raft_small": models.optical_flow.raft_small, "raft_large": models.optical_flow.raft_large}
    return build[name](weights=None)


def build_flow(cfg: FlowConfig) -> ReferenceFlow:
    """The configured flow network. Raises `UserError` when there is none, or RAFT has no usable weights file."""
    if cfg.network == "none":
        raise UserError("flow.network=none: a reference flow is needed here: add flow.network=dis")
    if cfg.network == "dis":
        return ReferenceFlow(DisFlow())
    network = raft_network(cfg.network)
    fix = f"set flow.weights to torchvision's {cfg.network} weights (.pth), or flow.network=dis"
    load_published(network, cfg.weights, fix)
    return ReferenceFlow(RaftFlow(network))
