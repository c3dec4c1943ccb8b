"""Sizes, widths, inputs and names of the patch discriminators."""

import pytest
import torch
from torch import nn

from vid2vid_dist.config.schema import Config, DataConfig, DiscriminatorConfig, LossConfig
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.blocks import halve
from vid2vid_dist.models.discriminator import (
    MultiscaleDiscriminator,
    face_discriminator,
    image_discriminator,
    temporal_discriminator,
)


def n_params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def street(num_D: int = 2, **options: object) -> Config:
    return Config(data=DataConfig(label_nc=35, use_instance=True),
                  discriminator=DiscriminatorConfig(num_D=num_D, **options))  # type: ignore[arg-type]


def test_layer_sizes_of_a_street_frame() -> None:
    outputs = MultiscaleDiscriminator(3, 2, 3, 2, "batch", features=True)(torch.zeros(1, 3, 256, 512))
    assert [tuple(layer.shape[-2:]) for layer in outputs[0]] == [
        (129, 257), (65, 129), (33, 65), (34, 66), (35, 67)]
    assert outputs[1][0].shape[-2:] == (65, 129)
    assert outputs[0][-1].shape[1] == 1


def test_full_size_networks_have_the_published_sizes() -> None:
    pose = Config(data=DataConfig(label_nc=0, input_nc=6), discriminator=DiscriminatorConfig(num_D=2))
    with torch.device("meta"):
        assert n_params(image_discriminator(street(2))) == 5_606_786
        assert n_params(image_discriminator(street(3))) == 8_410_179
        assert n_params(temporal_discriminator(street(2))) == 5_553_538
        assert n_params(image_discriminator(pose)) == 5_545_346
        assert n_params(face_discriminator(pose)) == 2_772_673


@pytest.mark.parametrize(("ndf", "num_D", "widths"), [(64, 2, [64, 64]), (32, 4, [64, 64, 64, 32])])
def test_widths_double_towards_the_coarse_scales_up_to_64(ndf: int, num_D: int, widths: list[int]) -> None:
    with torch.device("meta"):
        network = MultiscaleDiscriminator(3, ndf, 3, num_D, "batch", features=True)
    assert [network.get_submodule(f"scale{scale}_layer0.0").out_channels for scale in range(num_D)] == widths


@pytest.mark.parametrize(("n_frames_D", "channels"), [(2, 8), (3, 13), (4, 18)])
def test_input_of_a_temporal_discriminator(n_frames_D: int, channels: int) -> None:
    with torch.device("meta"):
        network = temporal_discriminator(street(n_frames_D=n_frames_D))
    assert network.get_submodule("scale0_layer0.0").in_channels == channels


@pytest.mark.parametrize(("num_D", "face_scales"), [(1, 1), (2, 1), (3, 1), (4, 2)])
def test_face_discriminator_has_two_scales_fewer(num_D: int, face_scales: int) -> None:
    with torch.device("meta"):
        assert face_discriminator(street(num_D)).num_D == face_scales


def test_one_more_scale_keeps_the_networks_at_their_resolution() -> None:
    small = MultiscaleDiscriminator(3, 64, 3, 2, "instance", features=True)
    large = MultiscaleDiscriminator(3, 64, 3, 3, "instance", features=True)
    report = large.load_state_dict(small.state_dict(), strict=False)
    assert not report.unexpected_keys
    assert all(name.startswith("scale2_") for name in report.missing_keys)
    frame = torch.randn(1, 3, 64, 64)
    for expected, found in zip(small(halve(frame)), large(frame)[1:], strict=True):
        assert torch.equal(expected[-1], found[-1])


def test_scores_alone_are_those_of_the_same_layers() -> None:
    torch.manual_seed(0)
    layered = MultiscaleDiscriminator(4, 4, 3, 2, "batch", features=True)
    flat = image_discriminator(Config(data=DataConfig(label_nc=1), loss=LossConfig(no_ganFeat=True),
                                      discriminator=DiscriminatorConfig(ndf=4, num_D=2)))
    flat.load_state_dict(dict(zip(flat.state_dict(), layered.state_dict().values(), strict=True)))
    frame = torch.randn(2, 4, 32, 48)
    for layers, scores in zip(layered(frame), flat(frame), strict=True):
        assert len(layers) == 5
        assert len(scores) == 1
        assert torch.equal(layers[-1], scores[-1])


@pytest.mark.parametrize("size", [(4, 64), (64, 4)])
def test_frames_of_which_too_little_is_left_are_refused(size: tuple[int, int]) -> None:
    network = MultiscaleDiscriminator(3, 4, 3, 3, "batch", features=True)
    with pytest.raises(UserError, match=f"{size[1]}x{size[0]} are too small for a discriminator of 3 scales"):
        network(torch.zeros(1, 3, *size))
    network(torch.zeros(1, 3, 5, 5))
