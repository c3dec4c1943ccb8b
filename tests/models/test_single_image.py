"""Image-only generators: published sizes, shapes and ranges."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vid2vid_dist.models.single_image import GlobalGenerator, GlobalWithFeatures, LocalEnhancer


@pytest.mark.parametrize(("build", "n_params"), [
    (lambda: GlobalGenerator(35), 45_693_699),
    (lambda: GlobalGenerator(35, n_downsample=4), 182_543_619),
    (lambda: LocalEnhancer(35), 182_852_355),
    (lambda: GlobalWithFeatures(15, 16), 48_453_203),
], ids=["512", "1024", "2048", "face"])
def test_full_size_networks_have_the_published_sizes(build: type[nn.Module], n_params: int) -> None:
    with torch.device("meta"):
        network = build()
    assert sum(parameter.numel() for parameter in network.parameters()) == n_params


@pytest.mark.parametrize("network", [
    GlobalGenerator(5, ngf=4, n_downsample=2, n_blocks=1),
    LocalEnhancer(5, ngf=4, n_downsample=2, n_blocks=1, n_local_enhancers=2, n_blocks_local=1),
], ids=lambda network: type(network).__name__)
def test_labels_become_an_image_of_the_same_size(network: nn.Module) -> None:
    image = network(torch.randn(2, 5, 32, 48))
    assert image.shape == (2, 3, 32, 48)
    assert image.abs().max() <= 1


def test_features_change_the_image_where_they_differ() -> None:
    network = GlobalWithFeatures(5, 2, ngf=4, n_downsample=2, n_blocks=1)
    labels, features = torch.randn(1, 5, 16, 24), torch.randn(1, 2, 16, 24)
    image = network(labels, features)
    assert image.shape == (1, 3, 16, 24)
    assert not torch.allclose(image, network(labels, features.flip(3)))
