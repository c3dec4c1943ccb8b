"""The first 7x7 convolution over label maps: a gather of kernel columns, as a one-hot input selects, not multiplies.

Over a pixel's window each frame adds, tap by tap, the kernel's column of the class that lies there. Most windows lie
inside one object and see a single class: all their taps together are one column, summed beforehand. What costs is
therefore the border of objects, a few per cent of a wide frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from vid2vid_dist.models.labels import EncodedLabels

MIXED_SHARE = 0.1  # of windows that see several classes, where there are no labels to look at: Cityscapes at 1024

BLOCK = 1024  # rows


def label_convolution(labels: EncodedLabels, conv: nn.Conv2d, gather: bool) -> Tensor:
    """`conv` (7x7, bias) under reflection padding over frames of labels (B, T, Ca, H, W): (B, O, H, W).

    The kernel's last channels are for the style, if there is one. With `gather` class ids are looked up, otherwise
    they are made one-hot; equal up to rounding. Either way only the ids are kept for the backward pass, and only the
    weights get a gradient from them.
    """
    radius = conv.kernel_size[0] // 2
    n_style = 0 if labels.style is None else labels.style.shape[1]
    kernel, of_style = conv.weight.split([conv.in_channels - n_style, n_style], dim=1)
    style = [] if labels.style is None else [labels.style]

    def dense(kernel: Tensor) -> Tensor:
        """Over planes that are no classes, and the style."""
        planes = labels.planes.flatten(1, 2)
        planes = torch.cat([planes, *style], dim=1) if style else planes
        return F.conv2d(F.pad(planes, [radius] * 4, mode="reflect"), kernel, conv.bias)

    if labels.ids is None:
        return dense(conv.weight)
    kernels = kernel.unflatten(1, (labels.n_frames, -1))  # (O, T, Ca, 7, 7)
    ids = _reflected(labels.ids[:, :, 0], radius)
    of_classes: Tensor = _ClassConvolution.apply(ids, kernels[:, :, : labels.n_classes], gather)
    if labels.planes.shape[2] == 0 and not style:
        assert conv.bias is not None
        return of_classes + conv.bias[:, None, None]
    rest = kernels[:, :, labels.n_classes :].flatten(1, 2)
    return of_classes + dense(torch.cat([rest, of_style], dim=1) if style else rest)


def _reflected(ids: Tensor, radius: int) -> Tensor:
    """(..., H, W) with `radius` more on each side, mirrored without repeating the border, of any dtype."""
    for dim in (-2, -1):
        last = ids.shape[dim] - 1
        at = torch.arange(-radius, last + radius + 1, device=ids.device).abs()
        ids = ids.index_select(dim, last - (last - at).abs())
    return ids


class _ClassConvolution(torch.autograd.Function):
    """Padded ids (B, T, H + 6, W + 6) and kernels (O, T, C, 7, 7) to (B, O, H, W)."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, kernels: Tensor, gather: bool) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.kernels_shape, ctx.gather = kernels.shape, gather
        if gather:
            return _gather(ids, kernels)
        return F.conv2d(_one_hot(ids, kernels.shape[2], kernels.dtype), kernels.flatten(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (ids,), (gradient,), shape = ctx.saved_tensors, gradients, ctx.kernels_shape
        if ctx.gather:
            return None, _scatter(ids, gradient, shape), None
        flat = torch.Size((shape[0], shape[1] * shape[2], *shape[3:]))
        planes = _one_hot(ids, shape[2], gradient.dtype)
        return None, conv2d_weight(planes, flat, gradient).view(shape), None


def _one_hot(ids: Tensor, n_classes: int, dtype: torch.dtype) -> Tensor:
    """(B, T, H, W) to (B, T * n_classes, H, W)."""
    batch, time, height, width = ids.shape
    planes = torch.zeros(batch, time, n_classes, height, width, dtype=dtype, device=ids.device)
    return planes.scatter_(2, ids.long()[:, :, None], 1.0).flatten(1, 2)


def _gather(ids: Tensor, kernels: Tensor) -> Tensor:
    n_out, time, n_classes, size, _ = kernels.shape
    wide = torch.promote_types(kernels.dtype, torch.float32)
    columns = kernels.to(wide).permute(1, 3, 4, 2, 0).flatten(1, 2)  # (T, taps, C, O)
    nothing = columns.new_zeros(time, 1, n_out)
    whole = torch.cat([columns.sum(dim=1), nothing], dim=1)  # a window of one class; the last row is for mixed ones
    windows = [_Windows(ids[:, t], size, n_classes) for t in range(time)]
    rows = torch.stack([w.pure for w in windows], dim=1) + torch.arange(time, device=ids.device) * (n_classes + 1)
    out = F.embedding_bag(rows, whole.flatten(0, 1), mode="sum")
    taps = torch.arange(size * size, device=ids.device) * n_classes
    for w, table in zip(windows, columns.flatten(1, 2), strict=True):
        out.index_add_(0, w.mixed, F.embedding_bag(w.seen.T + taps, table, mode="sum"))
    batch, height, width = ids.shape[0], ids.shape[2] - size + 1, ids.shape[3] - size + 1
    return out.to(kernels.dtype).view(batch, height, width, n_out).permute(0, 3, 1, 2).contiguous()


def _scatter(ids: Tensor, gradient: Tensor, shape: torch.Size) -> Tensor:
    """The adjoint of `_gather`: to each kernel column the gradients of the pixels that it was added to."""
    n_out, time, n_classes, size, _ = shape
    wide = torch.promote_types(gradient.dtype, torch.float32)
    rows = gradient.permute(0, 2, 3, 1).reshape(-1, n_out).to(wide)
    columns = rows.new_zeros(time, size * size, n_classes, n_out)
    for t in range(time):
        windows = _Windows(ids[:, t], size, n_classes)
        of_mixed = rows[windows.mixed]
        for column, seen in zip(columns[t], windows.seen, strict=True):
            column += _sum_by_class(seen, of_mixed, n_classes)
        columns[t] += _sum_by_class(windows.pure, rows, n_classes + 1)[:n_classes]
    of_kernels = columns.unflatten(1, (size, size)).permute(4, 0, 3, 1, 2)
    return of_kernels.to(gradient.dtype).contiguous()


def _sum_by_class(classes: Tensor, rows: Tensor, n_classes: int) -> Tensor:
    """Sums of the rows of each class (n_classes, O). In two stages: a million float32 numbers added one by one lose
    their last digits."""
    n_blocks = len(rows) // BLOCK + 1
    block = torch.arange(len(rows), device=rows.device) // BLOCK
    sums = rows.new_zeros(n_blocks * n_classes, rows.shape[1]).index_add_(0, block * n_classes + classes, rows)
    return sums.view(n_blocks, n_classes, -1).sum(dim=0)


class _Windows:
    """What the windows of `size` x `size` pixels see of one frame of padded ids (B, H + size - 1, W + size - 1).

    `pure` (B * H * W): the class of a window that sees one class, or `n_classes`; `mixed`: the numbers of the
    windows that may see more; `seen` (size * size, mixed windows): the classes under their taps.
    """

    def __init__(self, ids: Tensor, size: int, n_classes: int) -> None:
        centre = ids[:, size // 2 : 1 - (size - size // 2) or None, size // 2 : 1 - (size - size // 2) or None]
        is_mixed = _sees_border(ids, size).flatten()
        if ids.is_meta:  # costs are counted without labels to look at
            self.mixed = torch.empty(int(MIXED_SHARE * is_mixed.numel()), dtype=torch.long, device=ids.device)
        else:
            self.mixed = is_mixed.nonzero()[:, 0]
        self.pure = centre.flatten().long().masked_fill(is_mixed, n_classes)
        height, width = centre.shape[1:]
        image, pixel = self.mixed // (height * width), self.mixed % (height * width)
        first = image * ids[0].numel() + pixel // width * ids.shape[2] + pixel % width
        across = torch.arange(size, device=ids.device)
        taps = (across[:, None] * ids.shape[2] + across).flatten()
        self.seen = ids.flatten()[first + taps[:, None]].long()


def _sees_border(ids: Tensor, size: int) -> Tensor:
    """(B, H, W), whether a window holds a pixel that differs from its right or lower neighbour: all that see two
    classes, and a few along whose far edge a border runs."""
    differs = torch.zeros(ids.shape, device=ids.device)
    differs[:, :, :-1] += ids[:, :, 1:] != ids[:, :, :-1]
    differs[:, :-1] += ids[:, 1:] != ids[:, :-1]
    rows = F.max_pool2d(differs[:, None], (size, 1), stride=1)
    return F.max_pool2d(rows, (1, size), stride=1)[:, 0] > 0
