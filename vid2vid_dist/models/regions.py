"""What is told of a whole region of a frame at once: means over it, and a look for every class of a label map."""

from typing import NamedTuple

import torch
from torch import Tensor


class RegionMeans(NamedTuple):
    """The R regions of one frame: their `ids` in rising order, `means` (R, C), `areas` (R) in pixels, and `of_pixel`
    (H * W), the place of each pixel's region among them."""

    ids: Tensor
    means: Tensor
    areas: Tensor
    of_pixel: Tensor


def region_means(features: Tensor, regions: Tensor) -> RegionMeans:
    """Means of (C, H, W) over the pixels of equal id, `regions` (H, W) of integers. The host counts the regions."""
    ids, of_pixel = regions.flatten().unique(return_inverse=True)
    areas = torch.bincount(of_pixel)
    return RegionMeans(ids, _means(features, of_pixel, areas), areas, of_pixel)


def _means(features: Tensor, of_pixel: Tensor, areas: Tensor) -> Tensor:
    """Summed in float64: a road has a million pixels."""
    wide = features.flatten(1).double()
    sums = wide.new_zeros(len(wide), len(areas)).index_add(1, of_pixel, wide)
    return (sums / areas).T.to(features.dtype)


def pool_by_region(features: Tensor, regions: Tensor) -> Tensor:
    """Replace every value of (N, C, H, W) by its channel's mean over the pixels of the same image and id.

    `regions` (N, 1, H, W) of integers. Gradients are spread over the regions likewise. The host does not wait to hear
    how many there are: room is for as many as pixels.
    """
    pooled = []
    for of_image, ids in zip(features, regions[:, 0], strict=True):
        rising, pixels = ids.flatten().sort()
        of_pixel = torch.empty_like(pixels).scatter(0, pixels, (rising.diff(prepend=rising[:1]) != 0).cumsum(0))
        areas = torch.zeros_like(of_pixel).scatter_add(0, of_pixel, torch.ones_like(of_pixel))
        pooled.append(_means(of_image, of_pixel, areas.clamp(min=1))[of_pixel].T.view_as(of_image))
    return torch.stack(pooled)


def paint_classes(looks: Tensor, labels: Tensor) -> Tensor:
    """(N, S, H, W): every pixel with the vector of its class, from `looks` (N, n_classes, S) and `labels`
    (N, 1, H, W) of integers."""
    painted = [look[ids.long()] for look, ids in zip(looks, labels[:, 0], strict=True)]
    return torch.stack(painted).permute(0, 3, 1, 2).contiguous()
