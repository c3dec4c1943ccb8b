"""Distances between two sets of features, (N, d) each: how far generated frames or clips are from real ones."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

N_SUBSETS, SUBSET_SIZE = 100, 1000  # as published figures of KID have them


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Between the Gaussians of two sets of at least two: |m - n|² + tr(C + D - 2 (C D)^½).

    With C = AᵀA and D = BᵀB the last trace is the sum of the singular values of A Bᵀ: no root of a product that is
    not quite positive, whatever the numbers of samples. Source: Heusel et al. 2017 (FID); with clips FVD
    (Unterthiner et al. 2018).
    """
    mean, root = _gaussian(real)
    other_mean, other_root = _gaussian(fake)
    cross = torch.linalg.svdvals(root @ other_root.T).sum()
    return float((mean - other_mean).square().sum() + root.square().sum() + other_root.square().sum() - 2 * cross)


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,), and a matrix (at most d, d) whose product with itself transposed is the covariance."""
    wide = features.double()
    mean = wide.mean(0)
    return mean, torch.linalg.qr((wide - mean) / math.sqrt(len(wide) - 1), mode="r").R


@dataclass(frozen=True)
class KernelDistance:
    """KID: mean and standard deviation over the subsets."""

    mean: float
    deviation: float
    n_subsets: int
    size: int


def kernel_distance(real: Tensor, fake: Tensor, n_subsets: int = N_SUBSETS, size: int = SUBSET_SIZE) -> KernelDistance:
    """Mean over random subsets, the same ones every time, of the squared MMD with the kernel (x·y / d + 1)³.

    Unbiased: the mean of very many sets of the same distribution is 0, for any size. Of sets that are not larger than
    a subset one is taken, all of it. Source: Bińkowski et al. 2018.
    """
    size = min(size, len(real), len(fake))
    if size == len(real) == len(fake):
        n_subsets = 1
    draws = torch.Generator().manual_seed(0)
    found = torch.stack([_squared_mmd(*(x[torch.randperm(len(x), generator=draws)[:size]].double()
                                        for x in (real, fake))) for _ in range(n_subsets)])
    return KernelDistance(float(found.mean()), float(found.std(correction=0)), n_subsets, size)


def _squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Of two sets of one size; no sample is compared with itself."""
    n = len(x)
    within = [k.sum() - k.diagonal().sum() for k in (_kernel(x, x), _kernel(y, y))]
    return (within[0] + within[1]) / (n * (n - 1)) - 2 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
