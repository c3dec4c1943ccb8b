"""Instance-wise feature encoder: how each part of a real image looks, in a few numbers (spec: networks 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vid2vid_dist.models.blocks import conv7, decoder, encoder, init_weights


class FeatureEncoder(nn.Module):
    """An image to features that are constant within each instance."""

    def __init__(self, n_features: int, ngf: int = 16, n_downsample: int = 4) -> None:
        super().__init__()
        self.model = nn.Sequential(
            *encoder(3, ngf, n_downsample, "instance"), *decoder(ngf, n_downsample, "instance"),
            *conv7(ngf, n_features), nn.Tanh())
        init_weights(self)

    def forward(self, images: Tensor, instances: Tensor) -> Tensor:
        """Images (N, 3, H, W) and integer ids (N, 1, H, W) to features (N, n_features, H, W) in [-1, 1]."""
        return instance_average(self.model(images), instances)


def instance_average(features: Tensor, instances: Tensor) -> Tensor:
    """Replace every value of (N, C, H, W) by its channel's mean over the pixels of the same image and id."""
    averaged = []
    for feature, ids in zip(features.flatten(2), instances.flatten(1), strict=True):
        _, region = ids.unique(return_inverse=True)
        counts = torch.bincount(region)
        sums = feature.new_zeros(feature.shape[0], len(counts)).index_add(1, region, feature)
        averaged.append((sums / counts)[:, region])
    return torch.stack(averaged).view_as(features)
