"""The networks of one scale: sizes, names, heads, blending."""

import pytest
import torch
from torch import nn

from vid2vid_dist.config.schema import GeneratorConfig
from vid2vid_dist.models.composite import (
    CompositeGenerator,
    Features,
    ScaleGenerator,
    _cover,
    blend,
    foreground_gradient,
)
from vid2vid_dist.models.labels import EncodedLabels

SMALL = {"ngf": 8, "n_blocks": 3, "n_blocks_local": 1, "n_downsample_G": 2}
LABEL_CHANNELS = 5


def build(scale: int = 0, **options: object) -> ScaleGenerator:
    cfg = GeneratorConfig(**(SMALL | options))  # type: ignore[arg-type]
    return CompositeGenerator(cfg, LABEL_CHANNELS, scale).double()


def inputs() -> tuple[EncodedLabels, torch.Tensor, torch.Tensor]:
    labels = EncodedLabels(torch.randn(1, 3, LABEL_CHANNELS, 16, 24, dtype=torch.float64))
    previous = torch.rand(1, 6, 16, 24, dtype=torch.float64) * 2 - 1
    mask = torch.zeros(1, 1, 16, 24, dtype=torch.float64)
    mask[..., 4:9, 5:20] = 1
    return labels, previous, mask


@pytest.mark.parametrize(("options", "scale", "n_params", "n_entries"), [
    ({"fg": True}, 0, 411_335_241, 533),
    ({}, 0, 365_391_366, 356),
    ({"fg": True}, 1, 2_880_489, 197),
    ({"fg": True}, 2, 859_641, 197),
    ({}, 1, None, 132),
    ({"fg": True, "n_downsample_G": 2}, 0, 137_792_649, 491),
    ({"fg": True, "n_downsample_G": 2}, 1, 3_830_217, None),
    ({"fg": True, "n_downsample_G": 2}, 2, 1_140_969, None),
])
def test_full_size_networks_have_the_published_sizes(
        options: dict[str, object], scale: int, n_params: int | None, n_entries: int | None) -> None:
    cfg = GeneratorConfig(**options)  # type: ignore[arg-type]
    with torch.device("meta"):
        network = CompositeGenerator(cfg, 36, scale)
    assert n_params in (None, sum(parameter.numel() for parameter in network.parameters()))
    assert n_entries in (None, len(network.state_dict()))


def test_without_flow_there_are_no_flow_parameters() -> None:
    cfg = GeneratorConfig(no_flow=True)
    with torch.device("meta"):
        network = CompositeGenerator(cfg, 6, 0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 283_090_179
    assert len(network.state_dict()) == 275
    labels, previous, _ = inputs()
    out = build(no_flow=True)(labels, previous)
    assert out.flow is out.weight is out.features.flow is None
    assert out.image is out.raw


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_merged_heads_equal_separate_heads(scale: int) -> None:
    labels, previous, _ = inputs()
    network = build(scale)
    out = network(labels, previous)
    assert torch.allclose(out.flow, network.model_final_flow(out.features.flow) * 20 * 2**scale, atol=1e-12)
    assert torch.allclose(out.weight, network.model_final_w(out.features.flow).sigmoid(), atol=1e-12)
    assert out.weight.min() > 0
    assert out.weight.max() < 1


@pytest.mark.parametrize("bias", [-100.0, 100.0])
def test_weight_chooses_between_warped_and_synthesised_pixels(bias: float) -> None:
    labels, previous, _ = inputs()
    network = build()
    nn.init.zeros_(network.model_final_flow[1].weight)
    nn.init.zeros_(network.model_final_flow[1].bias)
    nn.init.constant_(network.model_final_w[1].bias, bias)
    out = network(labels, previous)
    assert torch.allclose(out.image, out.raw if bias > 0 else previous[:, -3:])


def test_foreground_covers_both_images_where_the_mask_is_one() -> None:
    labels, previous, mask = inputs()
    network = build(fg=True)
    out = network(labels, previous, mask)
    foreground = network.foreground_branch(labels).image
    inside = mask.bool().expand(1, 3, -1, -1)
    for image in (out.image, out.raw):
        assert torch.allclose(image[inside], foreground[inside])
        assert not torch.isclose(image[~inside], foreground[~inside]).all()
    background = network(labels, previous, torch.zeros_like(mask))
    assert torch.allclose(out.image[~inside], background.image[~inside])


@pytest.mark.parametrize("n_frames", [1, 2])
def test_foreground_gradient_is_the_derivative_of_covering(n_frames: int) -> None:
    """Of everything that it covers, one frame or two, with a mask that is not 0 or 1, as at coarse scales."""
    torch.manual_seed(0)
    foreground, *frames = torch.randn(1 + n_frames, 2, 3, 8, 12, dtype=torch.float64)
    mask, gradients = torch.rand(2, 1, 8, 12, dtype=torch.float64), list(torch.randn_like(torch.stack(frames)))
    foreground.requires_grad_()
    covered = [_cover(frame, foreground, mask) for frame in frames]
    (expected,) = torch.autograd.grad(covered, foreground, gradients)
    torch.testing.assert_close(foreground_gradient(mask, gradients), expected)


def test_raw_only_leaves_the_warp_out_but_makes_flow_and_weight() -> None:
    labels, previous, mask = inputs()
    network = build(fg=True)
    raw_only, blended = network(labels, previous, mask, raw_only=True), network(labels, previous, mask)
    assert raw_only.image is raw_only.raw
    assert torch.allclose(raw_only.raw, blended.raw)
    assert torch.allclose(raw_only.flow, blended.flow)
    assert torch.allclose(raw_only.weight, blended.weight)


@pytest.mark.parametrize("scale", [0, 1])
def test_branches_put_together_by_hand_equal_forward(scale: int) -> None:
    labels, previous, mask = inputs()
    network = build(scale, fg=True)
    coarse = None
    if scale:
        shapes = (1, 2 * network.ngf, 8, 12), (1, 2 * network.fg_ngf, 8, 12)
        coarse = Features(*(torch.randn(shape, dtype=torch.float64) for shape in (shapes[0], *shapes)))
    foreground = network.foreground_branch(labels, coarse.fg if coarse else None)
    trunk = network.encode_past(network.label_branch(labels), previous)
    synthesised, _ = network.image_branch(trunk, coarse.img if coarse else None)
    flow = network.flow_branch(trunk, previous[:, -3:], coarse.flow if coarse else None)
    by_hand = blend(synthesised, flow.warped, flow.weight, (foreground.image, mask))
    expected = network(labels, previous, mask, coarse)
    assert torch.equal(by_hand[0], expected.image)
    assert torch.equal(by_hand[1], expected.raw)


def test_coarse_features_reach_every_branch() -> None:
    labels, previous, mask = inputs()
    network = build(1, fg=True)
    features = [torch.zeros(1, 2 * width, 8, 12, dtype=torch.float64, requires_grad=True)
                for width in (network.ngf, network.ngf, network.fg_ngf)]
    out = network(labels, previous, mask, Features(*features))
    for target, expected in ((out.features.img, 0), (out.features.flow, 1), (out.features.fg, 2)):
        gradients = torch.autograd.grad(target.sum(), features, retain_graph=True, allow_unused=True)
        assert [gradient is not None for gradient in gradients] == [i == expected for i in range(3)]


def test_fresh_weights_have_the_published_spread() -> None:
    torch.manual_seed(0)
    network = build(ngf=32)
    convolutions = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d)])
    scales = torch.cat([m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)])
    assert abs(convolutions.mean()) < 1e-3
    assert abs(convolutions.std() - 0.02) < 1e-3
    assert abs(scales.mean() - 1) < 5e-3
    assert abs(scales.std() - 0.02) < 2e-3


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_normalisation_uses_the_frame_at_hand_and_records_it(norm: str) -> None:
    labels, previous, _ = inputs()
    network = build(norm=norm)
    statistics = network.state_dict()["model_down_seg.2.running_mean"].clone()
    out = network(labels, previous).image
    assert not torch.equal(statistics, network.state_dict()["model_down_seg.2.running_mean"])
    assert torch.equal(out, network(labels, previous).image)
    assert not torch.allclose(out, network.eval()(labels, previous).image)
