"""Features of regions: pooled, painted, instance by instance."""

import torch

from vid2vid_dist.models.encoder import FeatureEncoder
from vid2vid_dist.models.regions import paint_classes, pool_by_region


def test_full_size_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = FeatureEncoder(16)
    assert sum(parameter.numel() for parameter in network.parameters()) == 799_008


def test_values_become_the_mean_of_their_instance() -> None:
    features = torch.tensor([[[[1.0, 3.0], [5.0, 8.0]]], [[[0.0, 2.0], [4.0, 10.0]]]])
    ids = torch.tensor([[[[7, 7], [900, 7]]], [[[7, 2], [2, 2]]]])  # ids of different images never mix
    expected = torch.tensor([[[[4.0, 4.0], [5.0, 4.0]]], [[[0.0, 16 / 3], [16 / 3, 16 / 3]]]])
    assert torch.allclose(pool_by_region(features, ids), expected)


def test_features_are_constant_within_an_instance() -> None:
    ids = torch.randint(0, 3, (2, 1, 16, 16))
    features = pool_by_region(FeatureEncoder(4, ngf=4, n_downsample=2)(torch.randn(2, 3, 16, 16)), ids)
    assert features.shape == (2, 4, 16, 16)
    for feature, regions in zip(features, ids, strict=True):
        for region in regions.unique():
            inside = feature[:, regions[0] == region]
            assert torch.allclose(inside, inside[:, :1].expand_as(inside))


def test_gradients_are_pooled_like_values() -> None:
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(0, 4, (2, 1, 4, 5))
    assert torch.autograd.gradcheck(lambda x: pool_by_region(x, ids), features)


def test_large_regions_lose_nothing_in_half_precision() -> None:
    """Summed in bfloat16, 40 000 ones would end at 256."""
    features = torch.ones(1, 1, 200, 200, dtype=torch.bfloat16)
    assert pool_by_region(features, torch.zeros(1, 1, 200, 200, dtype=torch.int32)).unique().tolist() == [1.0]


def test_every_pixel_gets_the_vector_of_its_class() -> None:
    looks = torch.arange(12.0).view(2, 3, 2)
    labels = torch.tensor([[[[0, 2]]], [[[1, 1]]]], dtype=torch.uint8)
    assert paint_classes(looks, labels).tolist() == [[[[0.0, 4.0]], [[1.0, 5.0]]], [[[8.0, 8.0]], [[9.0, 9.0]]]]
