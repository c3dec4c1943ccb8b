"""The few layers that every network is built from (spec: networks 1).

Stacks are lists of modules, so that positions inside an `nn.Sequential` give the parameter names of
published weights: every pad, norm and activation counts.
"""

from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from vid2vid_dist.models.convolution import Conv7x7, MinimalConv
from vid2vid_dist.models.spectral import with_plain_kernels

N = TypeVar("N", bound=nn.Module)


def norm_layer(norm: str, channels: int) -> nn.Module:
    """`batch` or `instance` normalisation; `spade` is batch where there are no labels.

    Networks stay in train mode for ever: what normalises is always the forward at hand. Running
    statistics exist because published weights hold them, instance norm's included.
    """
    if norm in ("batch", "spade"):
        return BatchNorm(channels)
    assert norm == "instance", norm
    return nn.InstanceNorm2d(channels, affine=False, track_running_stats=True)


class BatchNorm(nn.BatchNorm2d):
    """Leaves it to others to count its batches, of all norms at once: by itself, it would take an operation for each
    forward. `n_uncounted`: batches that `num_batches_tracked` does not know of; those that leave the statistics alone,
    with a momentum of 0, are none."""

    n_uncounted = 0

    def forward(self, x: Tensor) -> Tensor:
        assert self.momentum is not None
        if torch.compiler.is_compiling():  # a program for every number else
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(self.training and self.momentum > 0)
        else:
            self.n_uncounted += self.training and self.momentum > 0
        if x.device.type == "cpu":  # in channels last torch adds all pixels up one by one, and loses digits
            x = x.contiguous()
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                                        self.training, self.momentum, self.eps)


class FrameNorm(nn.Module):
    """Normalises every frame of a batch by itself: what `norm_layer` does to a batch of one."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, weight: Tensor | None, bias: Tensor | None, eps: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def per_frame_norms(network: N) -> N:
    """Put a `FrameNorm` in the place of every norm layer of `network`, which is changed, and plain kernels in the place
    of normalised ones: for generation only."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d | nn.InstanceNorm2d):
                weight, bias = (None if x is None else x.detach() for x in (child.weight, child.bias))
                setattr(module, name, FrameNorm(weight, bias, child.eps))
    return with_plain_kernels(network)


def conv7(in_channels: int, out_channels: int) -> list[nn.Module]:
    """7x7 convolution that keeps the size."""
    return [nn.ReflectionPad2d(3), Conv7x7(in_channels, out_channels)]


def relu(norm: str) -> nn.Module:
    """Behind a norm: in place, since autograd does not keep what comes out of that. Instance norm's is a view, of which
    autograd would make a copy."""
    return nn.ReLU(inplace=norm != "instance")


def encoder(in_channels: int, ngf: int, n_downsample: int, norm: str,
            max_channels: int | None = None) -> list[nn.Module]:
    """A 7x7 convolution, then `n_downsample` times a 3x3 one of stride 2, which halves the size (rounded up): channels
    double each time, up to `max_channels`. Norm and ReLU behind each."""
    widths = channel_widths(ngf, n_downsample, max_channels)
    layers = [*conv7(in_channels, widths[0]), norm_layer(norm, widths[0]), relu(norm)]
    for narrow, wide in pairwise(widths):
        layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), norm_layer(norm, wide), relu(norm)]
    return layers


def decoder(ngf: int, n_downsample: int, norm: str, max_channels: int | None = None, *,
            in_channels: int | None = None) -> list[nn.Module]:
    """The way back from `encoder`: `n_downsample` times a transposed 3x3 convolution of stride 2, which doubles the
    size, norm, ReLU; ends with ngf channels.

    `in_channels` is the width of the input where features have been concatenated to it.
    """
    widths = channel_widths(ngf, n_downsample, max_channels)[::-1]
    layers: list[nn.Module] = []
    for wide, narrow in pairwise([in_channels or widths[0], *widths[1:]]):
        conv = nn.ConvTranspose2d(wide, narrow, 3, stride=2, padding=1, output_padding=1)
        layers += [conv, norm_layer(norm, narrow), relu(norm)]
    return layers


def channel_widths(ngf: int, n_downsample: int, max_channels: int | None = None) -> list[int]:
    """Channels from full to coarsest resolution: ngf, 2 ngf, ... (n_downsample + 1 entries)."""
    widths = [ngf * 2**i for i in range(n_downsample + 1)]
    return widths if max_channels is None else [min(max_channels, w) for w in widths]


class ResnetBlock(nn.Module):
    """x + conv_block(x), without an activation after the sum."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), MinimalConv(channels, channels, 3), norm_layer(norm, channels), relu(norm),
            nn.ReflectionPad2d(1), MinimalConv(channels, channels, 3), norm_layer(norm, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def resnet_blocks(channels: int, n_blocks: int, norm: str) -> list[nn.Module]:
    """`n_blocks` residual blocks of the same width."""
    return [ResnetBlock(channels, norm) for _ in range(n_blocks)]


def halve(x: Tensor) -> Tensor:
    """(N, C, H, W) at half the size (rounded up): 3x3 average of stride 2 that leaves padding out."""
    return nn.functional.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


def init_weights(network: nn.Module) -> None:
    """Draw convolution weights from N(0, 0.02) and batch norm scales from N(1, 0.02).

    Convolution biases keep torch's default.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
