"""Instance-wise features."""

from __future__ import annotations

import torch

from vid2vid_dist.models.encoder import FeatureEncoder, instance_average


def test_full_size_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = FeatureEncoder(16)
    assert sum(parameter.numel() for parameter in network.parameters()) == 799_008


def test_values_become_the_mean_of_their_instance() -> None:
    features = torch.tensor([[[[1.0, 3.0], [5.0, 8.0]]], [[[0.0, 2.0], [4.0, 10.0]]]])
    ids = torch.tensor([[[[7, 7], [900, 7]]], [[[7, 2], [2, 2]]]])  # ids of different images never mix
    expected = torch.tensor([[[[4.0, 4.0], [5.0, 4.0]]], [[[0.0, 16 / 3], [16 / 3, 16 / 3]]]])
    assert torch.allclose(instance_average(features, ids), expected)


def test_features_are_constant_within_an_instance() -> None:
    ids = torch.randint(0, 3, (2, 1, 16, 16))
    features = FeatureEncoder(4, ngf=4, n_downsample=2)(torch.randn(2, 3, 16, 16), ids)
    assert features.shape == (2, 4, 16, 16)
    for feature, regions in zip(features, ids, strict=True):
        for region in regions.unique():
            inside = feature[:, regions[0] == region]
            assert torch.allclose(inside, inside[:, :1].expand_as(inside))
