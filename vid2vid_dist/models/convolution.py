"""Convolutions that take less time on a CPU in another form: the same sums, up to rounding.

3x3 and 4x4 by minimal filtering (Winograd; Lavin and Gray 2016): a tile of inputs and a kernel are polynomials, whose
product is found from its values at some points. F(4x4, 3x3) takes 36 multiplications where the sums over a window take
144, F(3x3, 4x4) 36 instead of 144, F(2x2, 3x3) 16 instead of 36. cuDNN does this by itself, the library that convolves
on CPUs does not. Between the transforms stand matrix products over the channels.

7x7 with few outputs by rows, which fill the registers of a CPU better, and the sums of seven rows.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N = TypeVar("N", bound=nn.Module)

LEAST_CHANNELS = 128  # of minimal filtering; below, the transforms take what the products save
POINTS = (0, 1, -1, 0.5, -2)  # beside infinity; among five the ones that round least
TILE = len(POINTS) + 1
FEW = 4  # outputs of 7x7


class MinimalConv(nn.Conv2d):
    """Convolution of stride 1 with a square kernel, by minimal filtering where that is faster."""

    def __init__(self, in_channels: int, out_channels: int, size: int, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, size, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H + 2 * padding - size + 1, W + 2 * padding - size + 1)."""
        assert self.bias is not None
        if not is_minimal(x, self.out_channels):
            return super().forward(x)
        found: Tensor = _Convolution.apply(x, self.weight, self.bias, self.padding[0])
        return found


class PreparedConv(nn.Module):
    """A `MinimalConv` without padding whose kernel does not change any more, transformed once: for generation."""

    kernel: Tensor
    bias: Tensor

    def __init__(self, conv: MinimalConv) -> None:
        super().__init__()
        assert conv.bias is not None
        assert not any(conv.padding)
        self.filtering = Filtering(TILE, conv.kernel_size[0])
        self.register_buffer("kernel", self.filtering.kernel(conv.weight.detach()))
        self.register_buffer("bias", conv.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """As `MinimalConv`."""
        assert takes_other_forms(x), "prepared for another device or number format"
        return self.filtering.convolve(x, self.kernel, self.bias)


def prepared(network: N) -> N:
    """Put transformed kernels in the place of those of `network`, which is changed: for generation only, where they do
    not change any more."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, MinimalConv) and is_minimal(child.weight, child.out_channels):
                setattr(module, name, PreparedConv(child))
    return network


def is_minimal(x: Tensor, out_channels: int) -> bool:
    """Whether `x` (N, C, H, W) is convolved with minimal filtering."""
    return min(x.shape[1], out_channels) >= LEAST_CHANNELS and takes_other_forms(x)


def takes_other_forms(x: Tensor) -> bool:
    """Compilers are given what they know; bfloat16 would be rounded once more."""
    wide = x.dtype in (torch.float32, torch.float64)
    return x.device.type == "cpu" and wide and not torch.compiler.is_compiling()


@dataclass(frozen=True)
class Filtering:
    """Minimal filtering by tiles of `tile` x `tile` inputs with kernels of `size` x `size`. P: products of a tile and
    two channels, `tile` squared; T: tiles of all images."""

    tile: int
    size: int

    @property
    def n_outputs(self) -> int:
        """Of a tile, along a side."""
        return self.tile + 1 - self.size

    def n_tiles(self, length: int) -> int:
        """Along a side of so many inputs."""
        return -(-(length + 1 - self.size) // self.n_outputs)

    def convolve(self, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """(N, C, H, W) and (P, O, C) to (N, O, H + 1 - size, W + 1 - size)."""
        _, _, to_outputs = _matrices(self, x.dtype)
        n, height, width = self.n_outputs, x.shape[2] + 1 - self.size, x.shape[3] + 1 - self.size
        products = self.tiles(x) @ kernel.mT
        products[self.tile + 1] += bias  # at 1 and 1: the product that all outputs of a tile add up
        outputs = (to_outputs @ products.flatten(1)).view(n, n, len(x), *map(self.n_tiles, x.shape[2:]), -1)
        return outputs.permute(2, 3, 0, 4, 1, 5).flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)[:, :, :height, :width]

    def kernel(self, weight: Tensor) -> Tensor:
        """(O, C, size, size) to (P, O, C)."""
        _, to_kernel, _ = _matrices(self, weight.dtype)
        return (to_kernel @ weight.reshape(-1, self.size**2).T).view(-1, *weight.shape[:2])

    def tiles(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to transformed tiles (P, T, C)."""
        to_tiles, _, _ = _matrices(self, x.dtype)
        windows = self._filled_up(x, self.size - 1).permute(0, 2, 3, 1)
        windows = windows.unfold(1, self.tile, self.n_outputs).unfold(2, self.tile, self.n_outputs)
        flat = windows.permute(4, 5, 0, 1, 2, 3).reshape(self.tile**2, -1)
        return (to_tiles @ flat).view(self.tile**2, -1, x.shape[1])

    def untiled(self, tiles: Tensor, shape: torch.Size) -> Tensor:
        """The adjoint of `tiles`: (P, T, C) to `shape` (N, C, H, W)."""
        to_tiles, _, _ = _matrices(self, tiles.dtype)
        n, (batch, channels, height, width) = self.n_outputs, shape
        down, across = self.n_tiles(height), self.n_tiles(width)
        flat = to_tiles.T @ tiles.flatten(1)
        windows = flat.view(self.tile, self.tile, batch, down, across, channels).permute(2, 3, 0, 4, 1, 5)
        found = windows.new_zeros(batch, down + 1, n, across + 1, n, channels)
        for y, rows in enumerate(windows.split(n, dim=2)):  # windows reach into the next tile
            for x, part in enumerate(rows.split(n, dim=4)):
                found[:, y : y + down, : part.shape[2], x : x + across, : part.shape[4]] += part
        return found.flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)[:, :, :height, :width]

    def products_gradient(self, gradient: Tensor) -> Tensor:
        """Gradients of outputs (N, O, h, w) to those of products (P, T, O)."""
        _, _, to_outputs = _matrices(self, gradient.dtype)
        n = self.n_outputs
        tiles = self._filled_up(gradient, 0).permute(0, 2, 3, 1).unflatten(1, (-1, n)).unflatten(3, (-1, n))
        flat = to_outputs.T @ tiles.permute(2, 4, 0, 1, 3, 5).reshape(n * n, -1)
        return flat.view(self.tile**2, -1, gradient.shape[1])

    def kernel_gradient(self, gradient: Tensor) -> Tensor:
        """Of the transformed kernel (P, O, C) to that of the kernel (O, C, size, size)."""
        _, to_kernel, _ = _matrices(self, gradient.dtype)
        return (gradient.flatten(1).T @ to_kernel).view(*gradient.shape[1:], self.size, self.size)

    def _filled_up(self, x: Tensor, border: int) -> Tensor:
        """With rows and columns of zeros more, up to whole tiles beside the border."""
        down, across = ((border - length) % self.n_outputs for length in x.shape[-2:])
        return F.pad(x, (0, across, 0, down)) if down or across else x


@cache
def _matrices(filtering: Filtering, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """What transforms flattened tiles (P, P), kernels (P, size^2), and products to outputs (n_outputs^2, P)."""
    tile, size = filtering.tile, filtering.size

    def values(n: int) -> Tensor:
        """Polynomials of n coefficients to their values at the points, the last at infinity: (tile, n)."""
        points = torch.tensor(POINTS[: tile - 1], dtype=torch.float64)
        return torch.cat([torch.vander(points, n, increasing=True), torch.eye(n, dtype=torch.float64)[-1:]])

    one_way = torch.linalg.inv(values(tile)).T, values(size), values(filtering.n_outputs).T
    to_tiles, to_kernel, to_outputs = (torch.kron(matrix, matrix).to(dtype) for matrix in one_way)
    return to_tiles, to_kernel, to_outputs


def _filtering_for(x: Tensor, weight: Tensor) -> Filtering:
    """Tiles of 6, unless there are so few that transforming the kernel takes longer than all else."""
    size, n_pixels = weight.shape[2], len(x) * x.shape[2] * x.shape[3]
    return Filtering(4 if size == 3 and n_pixels < 2 * x.shape[1] else TILE, size)


class _Convolution(torch.autograd.Function):
    """Keeps what a plain convolution keeps; transforms are made again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        ctx.padding = padding
        ctx.save_for_backward(x, weight)
        padded = _padded(x, padding)
        filtering = _filtering_for(padded, weight)
        return filtering.convolve(padded, filtering.kernel(weight), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (x, weight), (gradient,), border = ctx.saved_tensors, gradients, ctx.padding
        wants_x, wants_weight, wants_bias = (_is_wanted(ctx, number) for number in range(3))
        padded = _padded(x, border)
        filtering = _filtering_for(padded, weight)
        of_x = of_weight = of_bias = None
        if wants_x or wants_weight:
            products = filtering.products_gradient(gradient)
        if wants_x:
            of_padded = filtering.untiled(products @ filtering.kernel(weight), padded.shape)
            of_x = of_padded[:, :, border : border + x.shape[2], border : border + x.shape[3]]
        if wants_weight:
            of_weight = filtering.kernel_gradient(products.mT @ filtering.tiles(padded))
        if wants_bias:
            of_bias = gradient.sum(dim=(0, 2, 3))
        return of_x, of_weight, of_bias, None


def _padded(x: Tensor, border: int) -> Tensor:
    return F.pad(x, (border,) * 4) if border else x


def _is_wanted(ctx: Any, number: int) -> bool:
    """Whether this backward pass is for an input's gradient: `needs_input_grad` says for what one might be.

    Two are taken of what a discriminator says of generated frames: to the frames, and to its weights.
    """
    node = ctx.next_functions[number][0]
    try:
        return node is not None and torch._C._will_engine_execute_node(node)
    except RuntimeError:  # a leaf that is asked for
        return True


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
