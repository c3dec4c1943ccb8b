"""The networks that make one frame at one spatial scale (paper section 3; spec: networks 2 and 3).

A frame is a blend of two: an image synthesised from labels and previous frames, and the previous frame
warped by a predicted flow. A predicted weight (1 = synthesised) says which one to trust at each pixel, and
a foreground branch, if there is one, overrides both where its labels are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vid2vid_dist.config.schema import GeneratorConfig
from vid2vid_dist.models.blocks import conv7, decoder, encoder, init_weights, resnet_blocks
from vid2vid_dist.models.compiling import compilable
from vid2vid_dist.models.compute_options import ComputeOptions, laid_out, run_stage
from vid2vid_dist.models.convolution import convolve7x7
from vid2vid_dist.models.label_conv import label_convolution
from vid2vid_dist.models.labels import EncodedLabels
from vid2vid_dist.models.spade import modulate, through
from vid2vid_dist.models.warp import warp


@dataclass
class Features:
    """Last feature maps before the 7x7 heads, (B, C, h, w): what a scale hands to the next finer one."""

    img: Tensor | None
    flow: Tensor | None
    fg: Tensor | None


@dataclass
class Foreground:
    """What the foreground branch makes: `image` (B, 3, h, w) in [-1, 1] and its last feature map."""

    image: Tensor
    features: Tensor


@dataclass
class Flow:
    """What the flow branch makes: `flow` (B, 2, h, w) in pixels, `weight` (B, 1, h, w) in [0, 1], how far the
    synthesised frame is trusted, the frame before `warped` (B, 3, h, w), and its last feature map."""

    flow: Tensor
    weight: Tensor
    warped: Tensor | None
    features: Tensor


@dataclass
class ScaleOutput:
    """One frame at one scale: `image` and `raw` (B, 3, h, w) in [-1, 1], `flow` (B, 2, h, w) in pixels,
    `weight` (B, 1, h, w) in [0, 1]. `raw` is the frame without the warped part."""

    image: Tensor
    raw: Tensor
    flow: Tensor | None
    weight: Tensor | None
    features: Features


class ScaleGenerator(nn.Module):
    """A scale but for its stacks of layers.

    The label and foreground branches read labels only, so they may run ahead of the frame they belong to. What waits
    for the frames before is their encoder, then two branches that do not wait for each other, image and flow.
    """

    # Made by `CompositeGenerator`, in the order and under the names of published weights; `indv_*` only with a
    # foreground branch, `*_flow` and `*_w` only with flow.
    indv_down: nn.Sequential
    indv_res: nn.Module
    indv_up: nn.Module
    indv_final: nn.Module
    model_down_seg: nn.Sequential
    model_down_img: nn.Module
    model_res_img: nn.Module
    model_up_img: nn.Module
    model_final_img: nn.Module
    model_res_flow: nn.Module
    model_up_flow: nn.Module
    model_final_flow: nn.Sequential
    model_final_w: nn.Sequential

    def __init__(self, cfg: GeneratorConfig, scale: int) -> None:
        super().__init__()
        self.no_flow = cfg.no_flow
        self.flow_unit = 20.0 * 2**scale  # pixels of this scale per unit of the flow head
        self.ngf = cfg.ngf // 2**scale
        self.fg_ngf = self.ngf // 2 if cfg.n_downsample_G > 2 else self.ngf
        self.compute_options = ComputeOptions()
        self.is_modulated = cfg.is_modulated

    @compilable
    def label_branch(self, labels: EncodedLabels) -> Tensor:
        """Features of n_frames_G label frames, oldest first."""
        return self._encode(self.model_down_seg, labels)

    @compilable
    def foreground_branch(self, labels: EncodedLabels, fg_features: Tensor | None = None) -> Foreground:
        """Foreground image from the label frames; `fg_features` are those of the next coarser scale."""
        encoded = _add(self._encode(self.indv_down, labels), fg_features)
        features = self._stage(encoded, self.indv_res, self.indv_up, labels=labels)
        return Foreground(self._stage(features, self.indv_final).contiguous(), features)

    def _encode(self, stack: nn.Sequential, labels: EncodedLabels) -> Tensor:
        """A stack that begins with a pad and a 7x7 convolution, from labels."""
        _, conv, *rest = stack
        x = label_convolution(labels, cast(nn.Conv2d, conv), self.compute_options.gather_labels)
        return self._stage(laid_out(x, self.compute_options), *rest)

    def _stage(self, x: Tensor, *stacks: nn.Module, labels: EncodedLabels | None = None) -> Tensor:
        """Layers one after the other, whose activations are kept for the backward pass or computed again in it;
        `labels` for those that read them."""
        def run(x: Tensor) -> Tensor:
            for stack in stacks:
                x = through(stack, x, labels) if labels is not None and self.is_modulated else stack(x)
            return x

        return run_stage(run, x, stacks, self.compute_options)

    @compilable
    def encode_past(self, label_features: Tensor, previous: Tensor) -> Tensor:
        """The trunk: label features and those of the frames before, `previous` (B, 3 * (n_frames_G - 1), h, w), oldest
        first. Its gradient is also that of the label features."""
        return label_features + self._stage(laid_out(previous, self.compute_options), self.model_down_img)

    @compilable
    def image_branch(self, trunk: Tensor, coarse: Tensor | None = None,
                     labels: EncodedLabels | None = None) -> tuple[Tensor, Tensor]:
        """The purely synthesised frame (B, 3, h, w) and its last feature map; `coarse` is that of the next coarser
        scale. `labels`: the window, where norm layers read it."""
        features = self._stage(_add(trunk, coarse), self.model_res_img, self.model_up_img, labels=labels)
        return self._stage(features, self.model_final_img).contiguous(), features

    @compilable
    def flow_branch(self, trunk: Tensor, previous: Tensor | None, coarse: Tensor | None = None,
                    labels: EncodedLabels | None = None) -> Flow:
        """Flow and weight; `previous` (B, 3, h, w) is the frame before, None where nothing is to be warped."""
        features = self._stage(_add(trunk, coarse), self.model_res_flow, self.model_up_flow, labels=labels)
        flow, weight = self._flow_and_weight(features)
        return Flow(flow, weight, None if previous is None else warp(previous, flow), features)

    def forward(self, labels: EncodedLabels, previous: Tensor, mask: Tensor | None = None,
                coarse: Features | None = None, raw_only: bool = False) -> ScaleOutput:
        """All branches one after the other; see them for shapes. Without a mask there is no foreground to make.
        `raw_only` leaves the warped frame out of the image; flow and weight are still made."""
        coarse = coarse or Features(None, None, None)
        foreground = flow = None
        if mask is not None:
            foreground = self.foreground_branch(labels, coarse.fg)
        trunk = self.encode_past(self.label_branch(labels), previous)
        synthesised, features = self.image_branch(trunk, coarse.img, labels)
        if not self.no_flow:
            flow = self.flow_branch(trunk, None if raw_only else previous[:, -3:], coarse.flow, labels)
        covering = None if foreground is None or mask is None else (foreground.image, mask)
        image, raw = blend(synthesised, None if flow is None else flow.warped, None if flow is None else flow.weight,
                           covering)
        made = Features(features, None if flow is None else flow.features,
                        None if foreground is None else foreground.features)
        return ScaleOutput(image, raw, None if flow is None else flow.flow, None if flow is None else flow.weight, made)

    def _flow_and_weight(self, features: Tensor) -> tuple[Tensor, Tensor]:
        # Both heads read the same 7x7 windows: one convolution costs less than half of two.
        heads = [cast(nn.Conv2d, self.model_final_flow[1]), cast(nn.Conv2d, self.model_final_w[1])]
        kernel = torch.cat([head.weight for head in heads])
        bias = torch.cat([cast(Tensor, head.bias) for head in heads])
        out = convolve7x7(self.model_final_flow[0](features), kernel, bias).contiguous()
        return out[:, :2] * self.flow_unit, torch.sigmoid(out[:, 2:])


def blend(synthesised: Tensor, warped: Tensor | None, weight: Tensor | None,
          covering: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """The frame, and the same without the warped part; `covering`: the foreground image and its mask (B, 1, h, w), 1 on
    the foreground."""
    image = raw = synthesised
    if warped is not None and weight is not None:
        image = synthesised * weight + warped * (1 - weight)
    if covering is not None:
        foreground, mask = covering
        covered = _cover(synthesised, foreground, mask)
        raw, image = covered, covered if warped is None else _cover(image, foreground, mask)
    return image, raw


def _cover(frame: Tensor, foreground: Tensor, mask: Tensor) -> Tensor:
    """The foreground image where the mask is."""
    return foreground * mask + frame * (1 - mask)


def foreground_gradient(mask: Tensor, of_covered: Sequence[Tensor]) -> Tensor:
    """The derivative of `_cover`: gradient of the foreground image, given those of the frames that it covers."""
    return mask * torch.stack(tuple(of_covered)).sum(dim=0)


def _add(features: Tensor, coarse: Tensor | None) -> Tensor:
    return features if coarse is None else features + coarse


class CompositeGenerator(ScaleGenerator):
    """One scale: encoders for labels and previous frames, residual blocks, decoders for image and flow.

    At scale 0 half of the blocks stand behind the encoders. A finer scale has half the channels of the one below, one
    down-sampling, and its few blocks are part of the decoders, so the separate residual stacks are identities.
    `label_channels` is Ca, the channels of one encoded label frame.
    """

    def __init__(self, cfg: GeneratorConfig, label_channels: int, scale: int) -> None:
        super().__init__(cfg, scale)
        norm, ngf = cfg.norm, self.ngf
        n_down, n_blocks = (1, cfg.n_blocks_local) if scale else (cfg.n_downsample_G, cfg.n_blocks)
        n_decode = n_blocks if scale else n_blocks // 2
        label_inputs, image_inputs = cfg.n_frames_G * label_channels + cfg.style_nc, 3 * (cfg.n_frames_G - 1)

        def encode(in_channels: int) -> nn.Sequential:
            trunk = resnet_blocks(ngf * 2**n_down, n_blocks - n_decode, norm)
            return nn.Sequential(*encoder(in_channels, ngf, n_down, norm), *trunk)

        def decode(ngf: int, n_blocks: int) -> tuple[nn.Module, nn.Module]:
            blocks, ups = resnet_blocks(ngf * 2**n_down, n_blocks, norm), decoder(ngf, n_down, norm)
            if scale:
                return nn.Identity(), nn.Sequential(*blocks, *ups)
            return nn.Sequential(*blocks), nn.Sequential(*ups)

        if cfg.fg:
            self.indv_down = nn.Sequential(*encoder(label_inputs, self.fg_ngf, n_down, norm))
            self.indv_res, self.indv_up = decode(self.fg_ngf, n_blocks)
            self.indv_final = nn.Sequential(*conv7(self.fg_ngf, 3), nn.Tanh())
        self.model_down_seg = encode(label_inputs)
        self.model_down_img = encode(image_inputs)
        self.model_res_img, self.model_up_img = decode(ngf, n_decode)
        self.model_final_img = nn.Sequential(*conv7(ngf, 3), nn.Tanh())
        if not cfg.no_flow:
            self.model_res_flow, self.model_up_flow = decode(ngf, n_decode)
            self.model_final_flow = nn.Sequential(*conv7(ngf, 2))
            self.model_final_w = nn.Sequential(*conv7(ngf, 1))
        if cfg.is_modulated:  # labels take part in the norm layers behind the encoders
            for name in ("indv_res", "indv_up", "model_res_img", "model_up_img", "model_res_flow", "model_up_flow"):
                if hasattr(self, name):
                    modulate(getattr(self, name), label_channels + cfg.style_nc)
        init_weights(self)
