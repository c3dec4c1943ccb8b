"""Image-only generators: published sizes, shapes and ranges."""

import pytest
import torch
from torch import nn

from vid2vid_dist.config.schema import Config
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import encode_labels
from vid2vid_dist.models.single_image import GlobalWithFeatures, ImageGenerator


@pytest.mark.parametrize(("build", "n_params"), [
    (lambda: ImageGenerator(35, 64, 3, 9), 45_693_699),
    (lambda: ImageGenerator(35, 64, 4, 9), 182_543_619),
    (lambda: ImageGenerator(35, 32, 4, 9, 1, 3), 182_852_355),
    (lambda: GlobalWithFeatures(15, 16, 64, 3, 9), 48_453_203),
], ids=["512", "1024", "2048", "face"])
def test_full_size_networks_have_the_published_sizes(build: type[nn.Module], n_params: int) -> None:
    with torch.device("meta"):
        network = build()
    assert sum(parameter.numel() for parameter in network.parameters()) == n_params


@pytest.mark.parametrize("network", [
    ImageGenerator(5, ngf=4, n_downsample=2, n_blocks=1),
    ImageGenerator(5, ngf=4, n_downsample=2, n_blocks=1, n_local_enhancers=2, n_blocks_local=1),
], ids=["global", "local"])
def test_labels_become_an_image_of_the_same_size(network: nn.Module) -> None:
    image = network(torch.randn(2, 5, 32, 48))
    assert image.shape == (2, 3, 32, 48)
    assert image.abs().max() <= 1


def test_features_change_the_image_where_they_differ() -> None:
    network = GlobalWithFeatures(5, 2, ngf=4, n_downsample=2, n_blocks=1)
    labels, features = torch.randn(1, 5, 16, 24), torch.randn(1, 2, 16, 24)
    image = network(torch.cat([labels, features], dim=1))
    assert image.shape == (1, 3, 16, 24)
    assert not torch.allclose(image, network(torch.cat([labels, features.flip(3)], dim=1)))


@pytest.mark.parametrize(("netG", "size_unit"), [("global", 4), ("local", 16)])
def test_in_the_place_of_a_video_generator_the_past_plays_no_part(netG: str, size_unit: int) -> None:
    cfg = Config()
    cfg.data.label_nc = 5
    gen = cfg.generator
    gen.netG, gen.norm, gen.no_flow, gen.no_first_img = netG, "instance", True, True
    gen.ngf, gen.n_blocks, gen.n_blocks_local, gen.n_downsample_G, gen.n_local_enhancers = 4, 1, 1, 2, 2
    generator = Generator(cfg)
    assert generator.size_unit == size_unit
    ids = torch.randint(5, (1, 4, 1, 32, 64), dtype=torch.uint8)
    pasts = [generator.start_history(torch.full((1, 2, 3, 32, 64), grey)) for grey in (0.0, 1.0)]
    made = [generator.generate(encode_labels(ids, None, 5), past, raw_only=True).fake for past in pasts]
    assert made[0].shape == (1, 2, 3, 32, 64)
    assert torch.equal(*made)
    alone = generator.generate(encode_labels(ids[:, [0, 0, 3]], None, 5), pasts[0]).fake
    assert torch.allclose(alone[:, 0], made[0][:, 1], atol=1e-6)
