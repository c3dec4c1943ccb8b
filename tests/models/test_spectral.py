"""Spectral normalisation: kernels of norm 1, one iteration per step, none in a pass."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tests.models.unrolled import unrolled
from vid2vid_dist.config.schema import Config, DataConfig, DiscriminatorConfig, GeneratorConfig
from vid2vid_dist.models.blocks import per_frame_norms
from vid2vid_dist.models.compute_options import ComputeOptions
from vid2vid_dist.models.discriminator import temporal_discriminator
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import encode_labels
from vid2vid_dist.models.spectral import VECTORS, advance, spectrally_normalised


def small_generator() -> Generator:
    torch.manual_seed(0)
    return Generator(Config(data=DataConfig(label_nc=4), generator=GeneratorConfig(
        ngf=4, n_blocks=2, n_blocks_local=1, n_downsample_G=1, n_scales_spatial=2, spectral_norm=True))).double()


def vectors(network: nn.Module) -> list[Tensor]:
    found = [x.clone() for name, x in network.state_dict().items() if name.endswith(VECTORS)]
    assert found
    return found


def frames(generator: Generator) -> Tensor:
    torch.manual_seed(1)
    labels = encode_labels(torch.randint(0, 4, (1, 4, 1, 16, 24)), None, 4, torch.float64)
    history = generator.start_history(torch.rand(1, 2, 3, 16, 24, dtype=torch.float64))
    return torch.stack([frame.images[-1] for frame in unrolled(generator, labels, history)])


@pytest.mark.parametrize("conv", [nn.Conv2d, nn.ConvTranspose2d])
def test_the_largest_singular_value_becomes_one(conv: type[nn.Conv2d]) -> None:
    torch.manual_seed(0)
    module = spectrally_normalised(conv(3, 6, 3).double())
    for _ in range(200):
        advance(module)
    kernel = module.weight if conv is nn.Conv2d else module.weight.transpose(0, 1)
    assert torch.linalg.svdvals(kernel.flatten(1))[0].item() == pytest.approx(1, abs=1e-9)


def test_an_iteration_is_that_of_torch() -> None:
    """Whose own goes on with every forward in training."""
    torch.manual_seed(0)
    theirs = spectral_norm(nn.Conv2d(3, 6, 3))
    ours = deepcopy(theirs)
    ours.parametrizations.weight[0].eval()
    x = torch.randn(1, 3, 5, 5)
    for _ in range(3):
        advance(ours)
        assert ours(x).equal(theirs(x))
        assert ours(x).equal(ours(x))


def test_every_kernel_of_a_discriminator_is_normalised_and_no_pass_iterates() -> None:
    cfg = Config(discriminator=DiscriminatorConfig(ndf=4, spectral_norm=True))
    network = temporal_discriminator(cfg)
    assert not [name for name, _ in network.named_parameters() if name.endswith("0.weight")]
    before = vectors(network)
    network(torch.randn(1, 13, 24, 32))[0][-1].sum().backward()
    assert all(a.equal(b) for a, b in zip(before, vectors(network), strict=True))
    advance(network)
    n_same = sum(a.equal(b) for a, b in zip(before, vectors(network), strict=True))
    assert n_same == 2 * cfg.discriminator.num_D  # score maps have one channel: their vectors are exact at once


def test_activations_computed_again_change_nothing() -> None:
    found = []
    for checkpoint in (False, True):
        generator = small_generator()
        generator.set_compute_options(ComputeOptions(checkpoint=checkpoint))
        frames(generator).square().sum().backward()
        found.append([*vectors(generator), *(p.grad for p in generator.parameters() if p.grad is not None)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-11)


def test_generation_has_plain_kernels_of_the_same_values() -> None:
    """The heads, whose outputs have units, are plain before."""
    generator = small_generator()
    plain = [name for name, _ in generator.named_parameters() if name.endswith("weight") and "final" in name]
    assert len(plain) == 3 * generator.n_scales
    expected = frames(deepcopy(generator))  # a batch of one is normalised alike
    assert frames(per_frame_norms(deepcopy(generator))).equal(expected)
    assert not [name for name in per_frame_norms(generator).state_dict() if "parametrizations" in name]
