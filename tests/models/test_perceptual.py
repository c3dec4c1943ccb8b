"""The cuts through VGG19 and its input."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vid2vid_dist.errors import UserError
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.perceptual import VGG19Features, load_vgg19


class AddOne(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def test_cuts_lie_behind_the_first_activation_of_each_stage() -> None:
    with torch.device("meta"):
        features = models.vgg.make_layers(models.vgg.cfgs["E"], batch_norm=False)
        outputs = VGG19Features(features)(torch.zeros(1, 3, 64, 64))
    assert [tuple(output.shape[1:]) for output in outputs] == [
        (64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4)]
    with pytest.raises(UserError, match=r"32x8 are too small .*both sides need 16 pixels"):
        VGG19Features(features)(torch.zeros(1, 3, 8, 32))
    for part in VGG19Features(features).slices:
        assert isinstance(part[-2], nn.Conv2d)
        assert isinstance(part[-1], nn.ReLU)


def test_wide_images_are_halved_first() -> None:
    features = VGG19Features(nn.Sequential(*(AddOne() for _ in range(37))))
    wide, limit = torch.randn(1, 3, 4, 2048), torch.randn(1, 3, 4, 1024)
    assert torch.allclose(features(wide)[0], F.avg_pool2d(wide, 2) + 2)
    assert torch.allclose(features(limit)[-1], limit + 30, atol=1e-5)


def test_network_is_frozen_and_passes_gradients_on() -> None:
    features = VGG19Features(nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(30))))
    image = torch.randn(1, 3, 4, 4, requires_grad=True)
    features(image)[-1].sum().backward()
    assert image.grad is not None
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_missing_weights_say_both_ways_out() -> None:
    with pytest.raises(UserError, match=r"loss\.vgg_weights to .*vgg19-dcbb9e9d\.pth, or loss\.no_vgg=true"):
        load_vgg19("")
