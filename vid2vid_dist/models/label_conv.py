"""The first 7x7 convolution over label maps: a gather of kernel columns, as a one-hot input selects, not multiplies.

Over a pixel's window each frame adds, tap by tap, the kernel's column of the class that lies there. Most windows lie
inside one object and see a single class: all their taps together are one column, summed beforehand. What costs is
therefore the border of objects, a few per cent of a wide frame.
"""

from functools import reduce
from operator import or_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from vid2vid_dist.models.labels import EncodedLabels, one_hot

MIXED_SHARE = 0.1  # of windows that see several classes, where there are no labels to look at: Cityscapes at 1024
STEPS_SHARE = 0.02  # of pixels whose left neighbour is of another class, likewise


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
        return F.conv2d(one_hot(ids[:, :, None], kernels.shape[2], kernels.dtype).flatten(1, 2), kernels.flatten(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (ids,), (gradient,), shape = ctx.saved_tensors, gradients, ctx.kernels_shape
        if ctx.gather:
            return None, _scatter(ids, gradient, shape), None
        flat = torch.Size((shape[0], shape[1] * shape[2], *shape[3:]))
        planes = one_hot(ids[:, :, None], shape[2], gradient.dtype).flatten(1, 2)
        return None, conv2d_weight(planes, flat, gradient).view(shape), None


def _gather(ids: Tensor, kernels: Tensor) -> Tensor:
    n_out, time, n_classes, size, _ = kernels.shape
    wide = torch.promote_types(kernels.dtype, torch.float32)
    columns = kernels.to(wide).permute(1, 3, 4, 2, 0).flatten(1, 2)  # (T, taps, C, O)
    nothing = columns.new_zeros(time, 1, n_out)
    whole = torch.cat([columns.sum(dim=1), nothing], dim=1)  # a window of one class; the last row is for mixed ones
    batch, height, width = ids.shape[0], ids.shape[2] - size + 1, ids.shape[3] - size + 1
    centre = ids[:, :, size // 2 : size // 2 + height, size // 2 : size // 2 + width]
    mixed = _sees_border(ids.flatten(0, 1), size).view_as(centre)
    rows = centre.int().masked_fill(mixed, n_classes).permute(0, 2, 3, 1).reshape(-1, time)
    frames, taps = (torch.arange(n, dtype=torch.int, device=ids.device) for n in (time, size * size))
    out = F.embedding_bag(rows + frames * (n_classes + 1), whole.flatten(0, 1), mode="sum")
    windows = ids.unfold(2, size, 1).unfold(3, size, 1)
    for t, table in enumerate(columns.flatten(1, 2)):
        if ids.is_meta:  # costs are counted without labels to look at
            at = torch.empty(int(MIXED_SHARE * len(rows)), dtype=torch.long, device=ids.device)
            seen = at.int()[:, None] + taps
        else:
            at = mixed[:, t].flatten().nonzero()[:, 0]
            seen = windows[:, t][mixed[:, t]].flatten(1)
        out.index_add_(0, at, F.embedding_bag(seen + taps * n_classes, table, mode="sum"))
    return out.to(kernels.dtype).view(batch, height, width, n_out).permute(0, 3, 1, 2)


def _sees_border(ids: Tensor, size: int) -> Tensor:
    """(N, H, W), whether a window of padded ids holds a pixel that differs from its right or lower neighbour: all that
    see two classes, and a few along whose far edge a border runs."""
    differs = torch.zeros_like(ids, dtype=torch.bool)
    differs[:, :, :-1] = ids[:, :, 1:] != ids[:, :, :-1]
    differs[:, :-1] |= ids[:, 1:] != ids[:, :-1]
    for dim in (1, 2):
        n = differs.shape[dim] - size + 1
        differs = reduce(or_, [differs.narrow(dim, first, n) for first in range(size)])
    return differs


def _scatter(ids: Tensor, gradient: Tensor, shape: torch.Size) -> Tensor:
    """The adjoint: to each kernel column the gradients of the pixels that it was added to.

    Along a row of labels a class comes in runs. What a run adds up is the difference of two sums from the left, so only
    the places count where the class changes.
    """
    n_out, time, n_classes, size, _ = shape
    _, _, height, width = gradient.shape
    sums = F.pad(gradient.permute(0, 2, 3, 1).cumsum(dim=2, dtype=torch.float64), (0, 0, 1, 0)).flatten(0, 2)
    classes = F.pad(ids.long(), (1, 1), value=n_classes)  # nothing at both ends
    before, now = classes[..., :-1], classes[..., 1:]
    if ids.is_meta:
        clip, frame, row, column = torch.empty(int(STEPS_SHARE * ids.numel()), 4, dtype=torch.long,
                                               device=ids.device).unbind(1)
        ends = begins = frame
    else:
        changes = before != now
        clip, frame, row, column = changes.nonzero().unbind(1)
        ends, begins = (frame * (n_classes + 1) + x[changes] for x in (before, now))
    column = (column[:, None] - torch.arange(size, device=ids.device)).clamp(0, width)
    table = sums.new_zeros(size, time * (n_classes + 1), size * n_out)
    for row_of_kernel, columns in enumerate(table):
        y = row - row_of_kernel
        first = (clip * height + y.clamp(0, height - 1)) * (width + 1)
        at = first[:, None] + column.masked_fill(((y < 0) | (y >= height))[:, None], 0)  # where nothing has been added
        to_the_left = sums[at].flatten(1)
        columns.index_add_(0, ends, to_the_left).index_add_(0, begins, to_the_left, alpha=-1)
    of_kernels = table.view(size, time, n_classes + 1, size, n_out)[:, :, :n_classes].permute(4, 1, 2, 0, 3)
    return of_kernels.to(gradient.dtype).contiguous()
