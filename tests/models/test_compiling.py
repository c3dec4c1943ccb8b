"""Compiled parts give what they give uncompiled, in every way of computing; what cannot be compiled is told.

Here torch's own operations run what the compiler has traced; its loops run in tests/engine/test_compiled_tasks.py.
"""

import os
import shutil
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_compute_options import outcome
from vid2vid_dist.config.load import load_config
from vid2vid_dist.errors import UserError
from vid2vid_dist.models import compiling
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.compiling import compilable, compile_network, compiler_problem
from vid2vid_dist.models.compute_options import ComputeOptions
from vid2vid_dist.models.discriminator import image_discriminator
from vid2vid_dist.models.perceptual import VGG19Features

HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_by(monkeypatch, "aot_eager_decomp_partition")


def compiled_by(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    """Parts are compiled by another backend, those that have been compiled before as well."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    monkeypatch.setattr(compiling, "_compiled", cache(compiling._compiled.__wrapped__))


@pytest.mark.long
@pytest.mark.parametrize(("norm", "options"), [
    ("batch", ComputeOptions(gather_labels=False, checkpoint=True)),
    pytest.param("instance", ComputeOptions(gather_labels=False, channels_last=True), marks=pytest.mark.full),
    ("spade", ComputeOptions(gather_labels=False))])
def test_a_generator(traced: None, norm: str, options: ComputeOptions) -> None:
    """Frames, gradients and statistics. Batches are counted at once here, elsewhere by the engine."""
    expected, found = ({name: x for name, x in outcome(options, norm, prepare).items() if "num_batches" not in name}
                       for prepare in (lambda network: None, compile_network))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_two_gradients_of_a_discriminator(traced: None) -> None:
    """With normalised kernels: to the frames, then to the weights."""
    cfg = load_config(None, ["discriminator.ndf=4", "discriminator.num_D=1", "data.label_nc=4",
                             "discriminator.spectral_norm=true"])
    network, frames = image_discriminator(cfg).double(), torch.rand(2, 7, 16, 24, dtype=torch.float64)

    def gradients() -> list[Tensor]:
        inputs = frames.clone().requires_grad_()
        (*_, score), = network(inputs)
        return [*torch.autograd.grad(score.square().sum(), inputs, retain_graph=True),
                *torch.autograd.grad(score.sin().sum(), list(network.parameters()))]

    expected = gradients()
    compile_network(network)
    torch.testing.assert_close(gradients(), expected, rtol=1e-9, atol=1e-10)


def test_features_of_frames(traced: None) -> None:
    """Without gradients and with; frames that are too small are told as uncompiled."""
    network = VGG19Features(models.vgg.make_layers(models.vgg.cfgs["E"], batch_norm=False))
    frames = torch.rand(1, 3, 16, 32)

    def found() -> list[Tensor]:
        inputs = frames.clone().requires_grad_()
        with torch.no_grad():
            of_real: list[Tensor] = network(frames)
        return [*of_real, *torch.autograd.grad(sum(x.square().sum() for x in network(inputs)), inputs)]

    expected = found()
    compile_network(network)
    torch.testing.assert_close(found(), expected)
    with pytest.raises(UserError, match=r"^frames of 8x8 are too small for the perceptual loss"):
        network(torch.rand(1, 3, 8, 8))


class Doubling(nn.Module):
    @compilable
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_a_part_that_cannot_be_compiled_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no such loop\nand 200 lines more")

    compiled_by(monkeypatch, broken)
    network = Doubling()
    assert network(torch.ones(1)) == 2
    compile_network(network)
    with pytest.raises(UserError, match=r"^optim\.compile=tasks: Doubling\.forward cannot be compiled \(.*\): set "):
        network(torch.ones(1))
    assert "nothing can be compiled here" in compiler_problem(torch.device("cpu"))
