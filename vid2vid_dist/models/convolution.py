"""Convolutions that take less time on a CPU in another form: the same sums, up to rounding.

3x3 by minimal filtering (Winograd; Lavin and Gray 2016, F(2x2, 3x3)): 16 multiplications where the sum over a window
takes 36. cuDNN does this by itself, the library that convolves on CPUs does not. Four neighbouring outputs read a tile
of 4x4. Tiles, kernels and sums are transformed by small matrices of 0, 1 and 1/2; between them stand 16 matrix products
over the channels.

7x7 with few outputs by rows, which fill the registers of a CPU better, and the sums of seven rows.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N = TypeVar("N", bound=nn.Module)

LEAST_CHANNELS = 128  # of 3x3; below, the transforms take what the products save
FEW = 4  # outputs of 7x7


class Conv3x3(nn.Conv2d):
    """3x3 convolution of stride 1 without padding, minimal where that is faster."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H - 2, W - 2)."""
        assert self.bias is not None
        if is_minimal(x, self.out_channels):
            found: Tensor = _Convolution.apply(x, self.weight, self.bias)
            return found
        return super().forward(x)


class Conv7x7(nn.Conv2d):
    """7x7 convolution of stride 1 without padding."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 7)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H - 6, W - 6)."""
        return convolve7x7(x, self.weight, self.bias)


def convolve7x7(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """(N, C, H, W) and (O, C, 7, 7) to (N, O, H - 6, W - 6)."""
    n_out, channels, size, _ = kernel.shape
    if n_out > FEW or not takes_other_forms(x):
        return F.conv2d(x, kernel, bias)
    rows = kernel.permute(2, 0, 1, 3).reshape(size * n_out, channels, 1, size)
    shifts = torch.eye(size * n_out, dtype=x.dtype).view(size, n_out, size, n_out).permute(3, 0, 1, 2)
    return F.conv2d(F.conv2d(x, rows), shifts.reshape(n_out, -1, size, 1), bias)


class PreparedConv3x3(nn.Module):
    """The same with a kernel that does not change any more, transformed once: for generation."""

    kernel: Tensor
    bias: Tensor

    def __init__(self, conv: Conv3x3) -> None:
        super().__init__()
        assert conv.bias is not None
        self.register_buffer("kernel", _kernel(conv.weight.detach()))
        self.register_buffer("bias", conv.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """As `Conv3x3`."""
        assert takes_other_forms(x), "prepared for another device or number format"
        return _convolve(x, self.kernel, self.bias)


def prepared(network: N) -> N:
    """Put transformed kernels in the place of those of `network`, which is changed: for generation only, where they do
    not change any more."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv3x3) and is_minimal(child.weight, child.out_channels):
                setattr(module, name, PreparedConv3x3(child))
    return network


def is_minimal(x: Tensor, out_channels: int) -> bool:
    """Whether `x` (N, C, H, W) is convolved with minimal filtering."""
    return min(x.shape[1], out_channels) >= LEAST_CHANNELS and takes_other_forms(x)


def takes_other_forms(x: Tensor) -> bool:
    """Compilers are given what they know; bfloat16 would be rounded once more."""
    wide = x.dtype in (torch.float32, torch.float64)
    return x.device.type == "cpu" and wide and not torch.compiler.is_compiling()


class _Convolution(torch.autograd.Function):
    """Keeps what a plain convolution keeps; transforms are made again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, _kernel(weight), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (x, weight), (gradient,) = ctx.saved_tensors, gradients
        of_x = of_weight = None
        products = _transformed_back(gradient)
        if ctx.needs_input_grad[0]:
            of_x = _untiled(products @ _kernel(weight), x.shape)
        if ctx.needs_input_grad[1]:
            _, to_kernel, _ = _matrices(x.dtype)
            of_kernel = products.mT @ _tiles(x)
            of_weight = (of_kernel.flatten(1).T @ to_kernel).view_as(weight)
        return of_x, of_weight, gradient.sum(dim=(0, 2, 3)) if ctx.needs_input_grad[2] else None


@cache
def _matrices(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """What transforms flattened tiles (16, 16), kernels (16, 9), and products to outputs (4, 16)."""
    tile = torch.tensor([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]], dtype=dtype)
    kernel = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], dtype=dtype)
    output = torch.tensor([[1, 1, 1, 0], [0, 1, -1, 1]], dtype=dtype)
    return torch.kron(tile, tile), torch.kron(kernel, kernel), torch.kron(output, output)


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    _, _, to_outputs = _matrices(x.dtype)
    height, width = x.shape[2] - 2, x.shape[3] - 2
    products = _tiles(x) @ kernel.mT
    products[5] += bias  # of the four products that all outputs of a tile add up, one
    outputs = (to_outputs @ products.flatten(1)).view(2, 2, len(x), (height + 1) // 2, (width + 1) // 2, -1)
    return outputs.permute(2, 3, 0, 4, 1, 5).flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)[:, :, :height, :width]


def _kernel(weight: Tensor) -> Tensor:
    """(O, C, 3, 3) to (16, O, C)."""
    _, to_kernel, _ = _matrices(weight.dtype)
    return (to_kernel @ weight.reshape(-1, 9).T).view(16, *weight.shape[:2])


def _tiles(x: Tensor) -> Tensor:
    """(N, C, H, W) to transformed tiles (16, tiles, C)."""
    to_tiles, _, _ = _matrices(x.dtype)
    rows = _even(x).permute(0, 2, 3, 1).unfold(1, 4, 2).unfold(2, 4, 2)  # (N, tiles down, tiles across, C, 4, 4)
    return (to_tiles @ rows.permute(4, 5, 0, 1, 2, 3).reshape(16, -1)).view(16, -1, x.shape[1])


def _untiled(tiles: Tensor, shape: torch.Size) -> Tensor:
    """The adjoint of `_tiles`."""
    to_tiles, _, _ = _matrices(tiles.dtype)
    batch, channels, height, width = shape
    down, across = (height - 1) // 2, (width - 1) // 2
    flat = to_tiles.T @ tiles.flatten(1)
    rows = flat.view(2, 2, 2, 2, batch, down, across, channels).permute(0, 2, 4, 5, 1, 6, 3, 7)
    found = rows.new_zeros(batch, down + 1, 2, across + 1, 2, channels)
    for y, of_rows in enumerate(rows):
        for x, quarter in enumerate(of_rows):
            found[:, y : y + down, :, x : x + across] += quarter
    return found.flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)[:, :, :height, :width]


def _transformed_back(gradient: Tensor) -> Tensor:
    """Gradients of outputs (N, O, H, W) to those of products (16, tiles, O)."""
    _, _, to_outputs = _matrices(gradient.dtype)
    pairs = _even(gradient).permute(0, 2, 3, 1).unflatten(1, (-1, 2)).unflatten(3, (-1, 2))
    return (to_outputs.T @ pairs.permute(2, 4, 0, 1, 3, 5).reshape(4, -1)).view(16, -1, gradient.shape[1])


def _even(x: Tensor) -> Tensor:
    """With a row or column of zeros more where the number is odd."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x
