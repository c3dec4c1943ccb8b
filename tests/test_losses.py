"""Loss terms against their formulas, their gradient cuts and their number formats."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vid2vid_dist import losses
from vid2vid_dist.models.discriminator import MultiscaleDiscriminator
from vid2vid_dist.models.warp import warp

SIZE = (6, 8)


def frames(channels: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, channels, *SIZE).to(dtype)


def outputs(*scales: int, dtype: torch.dtype = torch.float64) -> losses.LayerOutputs:
    """Discriminator outputs: per entry one patch scale with so many layers."""
    return [[frames(layer + 1, dtype) for layer in range(n_layers)] for n_layers in scales]


def test_least_squares_sums_the_scales_and_scores_the_last_layer() -> None:
    found = outputs(2, 3)
    fine, coarse = found[0][-1], found[1][-1]
    towards_one = (coarse - 1).square().mean() + (fine - 1).square().mean()
    assert torch.isclose(losses.gan_loss(found, True), towards_one)
    assert torch.isclose(losses.gan_loss(found, False), coarse.square().mean() + fine.square().mean())
    assert losses.gan_loss(found, True, for_generator=True) == losses.gan_loss(found, True)


def test_hinge() -> None:
    found = [[torch.tensor([-2.0, 0.5, 3.0])]]
    assert losses.gan_loss(found, True, "hinge") == pytest.approx((3 + 0.5 + 0) / 3)
    assert losses.gan_loss(found, False, "hinge") == pytest.approx((0 + 1.5 + 4) / 3)
    assert losses.gan_loss(found, True, "hinge", for_generator=True) == pytest.approx(-0.5)


def test_logistic_is_cross_entropy() -> None:
    score = torch.tensor([-2.0, 0.5, 30.0])
    for real in (True, False):
        expected = torch.nn.functional.binary_cross_entropy_with_logits(score, torch.full_like(score, float(real)))
        torch.testing.assert_close(losses.gan_loss([[score]], real, "logistic"), expected)
    assert losses.gan_loss([[score]], True, "logistic", for_generator=True) == losses.gan_loss(
        [[score]], True, "logistic")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weighted_l1_and_its_gradients_are_those_of_its_terms(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weights, sizes = [0.25, 3.0, 1.0], [(2, 3, 4), (5,), (1, 7, 2, 2)]
    fakes, reals = ([torch.randn(size).to(dtype).requires_grad_() for size in sizes] for _ in range(2))
    found = losses.weighted_l1(fakes, reals, weights)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    expected = sum(w * (a.double() - b.double()).abs().mean() for w, a, b in zip(weights, fakes, reals, strict=True))
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    assert torch.autograd.grad(found, reals, retain_graph=True, allow_unused=True) == (None, None, None)
    for x, wanted in zip(torch.autograd.grad(2 * found, fakes), torch.autograd.grad(2 * expected, fakes), strict=True):
        torch.testing.assert_close(x, wanted)


def test_r1_of_a_linear_score_is_its_steepness() -> None:
    """Two scales whose scores are weighted sums of the pixels; the labels, channel 0, do not count."""
    torch.manual_seed(0)
    weights = torch.randn(2, 1, 4, 6, 6, dtype=torch.float64)
    x = torch.randn(5, 4, 6, 6, dtype=torch.float64).requires_grad_()
    outputs = [[(x * w).sum(dim=(1, 2, 3)).view(5, 1, 1, 1).expand(5, 1, 2, 3)] for w in weights]
    found = losses.r1_penalty(outputs, x, slice(-3, None), gamma=3.0)
    torch.testing.assert_close(found, 1.5 * weights.sum(dim=0)[:, 1:].square().sum())


@pytest.mark.parametrize("mode", ["ls", "hinge", "logistic"])
def test_all_modes_train_a_discriminator_and_then_a_frame(mode: str) -> None:
    torch.manual_seed(0)
    network = MultiscaleDiscriminator(3, 8, 1, 2, "instance", features=False)
    x = torch.linspace(-1, 1, 16)
    real = (x[:, None] * x).expand(4, 3, 16, 16) + 0.1 * torch.randn(4, 3, 16, 16)
    fake = (0.5 * torch.randn(4, 3, 16, 16)).requires_grad_()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)

    def discriminator_loss() -> Tensor:
        on_fake = losses.gan_loss(network(fake.detach()), False, mode)
        return on_fake + losses.gan_loss(network(real), True, mode)

    start = discriminator_loss().item()
    for _ in range(40):
        optimiser.zero_grad()
        discriminator_loss().backward()
        optimiser.step()
    assert discriminator_loss() < 0.25 * start

    towards = torch.optim.Adam([fake], lr=2e-2)
    before = losses.gan_loss(network(fake), True, mode, for_generator=True).item()
    for _ in range(20):
        towards.zero_grad()
        losses.gan_loss(network(fake), True, mode, for_generator=True).backward()
        towards.step()
    assert losses.gan_loss(network(fake), True, mode, for_generator=True) < before - 0.5


def test_feature_matching_weighs_layers_before_the_score() -> None:
    fake, real = outputs(5, 5), outputs(5, 5)
    expected = sum(((f - r).abs().mean() for fs, rs in zip(fake, real, strict=True)
                    for f, r in zip(fs[:-1], rs[:-1], strict=True)), torch.zeros(()))
    found = losses.feature_matching(fake, real, num_D=2, n_layers_D=3, weight=10.0)
    assert torch.isclose(found, expected * 10 / 2 * 4 / 4)
    assert torch.isclose(losses.feature_matching(fake, real, num_D=4, n_layers_D=7, weight=10.0), found / 4)


def test_feature_matching_holds_the_real_side_constant() -> None:
    fake, real = outputs(3), outputs(3)
    for layer in (*fake[0], *real[0]):
        layer.requires_grad_()
    losses.feature_matching(fake, real, 1, 3, 10.0).backward()
    assert [layer.grad is not None for layer in fake[0]] == [True, True, False]
    assert all(layer.grad is None for layer in real[0])


def test_feature_matching_without_features_is_zero() -> None:
    assert losses.feature_matching(outputs(1, 1), outputs(1, 1), 2, 3, 10.0) == 0


def test_masked_l1_averages_over_masked_elements_too() -> None:
    a, b = torch.full((1, 3, 2, 2), 3.0), torch.ones(1, 3, 2, 2)
    mask = torch.tensor([[1.0, 0.0], [0.5, 0.0]]).view(1, 1, 2, 2)
    assert losses.masked_l1(a, b, mask) == pytest.approx((2 + 0 + 1 + 0) / 4)
    assert losses.weight_loss(mask, mask) == pytest.approx((1 + 0.25) / 4)


def test_perceptual_weights_grow_towards_the_deep_layers() -> None:
    real = [torch.zeros(1, 2, 3, 3, requires_grad=True) for _ in range(5)]
    fake = [torch.full((1, 2, 3, 3), float(10**k), requires_grad=True) for k in range(5)]
    distance = losses.perceptual_distance(fake, real)
    assert distance.item() == pytest.approx(1 / 32 + 10 / 16 + 100 / 8 + 1000 / 4 + 10_000)
    distance.backward()
    assert all(feature.grad is not None for feature in fake)
    assert all(feature.grad is None for feature in real)


def test_flow_terms() -> None:
    flow, reference, real, previous = frames(2), frames(2), frames(), frames()
    confidence = torch.rand(2, 1, *SIZE, dtype=torch.float64)
    expected = ((flow - reference) * confidence).abs().mean() * 10
    for n_scales, share in ((1, 1), (2, 2), (3, 4)):
        found = losses.flow_loss(flow, reference, confidence, 10.0, n_scales)
        assert torch.isclose(found, expected / share)
    expected = ((warp(previous, flow) - real) * confidence).abs().mean() * 5
    assert torch.isclose(losses.flow_warp_loss(flow, previous, real, confidence, 5.0), expected)


def test_temporal_warp_term_trains_the_newer_frame_only() -> None:
    fake, previous = frames().requires_grad_(), frames().requires_grad_()
    flow, confidence = frames(2), torch.ones(2, 1, *SIZE, dtype=torch.float64)
    loss = losses.temporal_warp_loss(fake, previous, flow, confidence, 10.0)
    assert torch.isclose(loss, (fake - warp(previous, flow)).abs().mean() * 10)
    loss.backward()
    assert fake.grad is not None
    assert previous.grad is None


def test_temporal_input_puts_scaled_flows_behind_the_frames() -> None:
    groups, flows = torch.randn(2, 3, 3, *SIZE), torch.randn(2, 2, 2, *SIZE)
    found = losses.temporal_input(groups, flows)
    assert found.shape == (2, 13, *SIZE)
    assert torch.equal(found[:, 3:6], groups[:, 1])
    assert torch.equal(found[:, 11:], flows[:, 1] / 20)
    assert losses.temporal_input(groups.bfloat16(), flows).dtype == torch.bfloat16


TERMS: list[Callable[[torch.dtype], Tensor]] = [
    lambda dtype: losses.gan_loss(outputs(2, dtype=dtype), True),
    lambda dtype: losses.gan_loss(outputs(2, dtype=dtype), False, "hinge"),
    lambda dtype: losses.feature_matching(outputs(3, dtype=dtype), outputs(3, dtype=dtype), 1, 3, 10.0),
    lambda dtype: losses.perceptual_distance(outputs(5, dtype=dtype)[0], outputs(5, dtype=dtype)[0]),
    lambda dtype: losses.flow_loss(frames(2, dtype), frames(2, dtype), frames(1, dtype), 10.0, 1),
    lambda dtype: losses.flow_warp_loss(
        frames(2, dtype), frames(3, dtype), frames(3, dtype), frames(1, dtype), 10.0),
    lambda dtype: losses.temporal_warp_loss(
        frames(3, dtype), frames(3, dtype), frames(2, dtype), frames(1, dtype), 10.0),
    lambda dtype: losses.weight_loss(frames(1, dtype), frames(1, dtype)),
]


@pytest.mark.parametrize("term", TERMS)
def test_reductions_are_wide(term: Callable[[torch.dtype], Tensor]) -> None:
    torch.manual_seed(0)
    exact = term(torch.float64)
    torch.manual_seed(0)
    half = term(torch.bfloat16)
    assert exact.dtype == torch.float64
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=2e-2)


def face_box(labels: Tensor, fine_size: int, openpose_only: bool) -> losses.Box | None:
    return losses.box_around([losses.face_extent(labels, openpose_only)], labels.shape[-2:], fine_size)


def body(*heads: tuple[int, int, int]) -> Tensor:
    """DensePose-like input (2, 3, 64, 96) with head pixels at (frame, row, column)."""
    labels = torch.full((2, 3, 64, 96), -1.0)
    for frame, row, column in heads:
        labels[frame, 2, row, column] = 23 / 24 * 2 - 1
    return labels


def test_face_box_surrounds_the_heads_of_all_frames() -> None:
    box = face_box(body((0, 30, 40), (1, 34, 51)), fine_size=64, openpose_only=False)
    assert box == losses.Box(top=24, bottom=40, left=37, right=53)
    assert box.crop(torch.zeros(2, 9, 64, 96)).shape == (2, 9, 16, 16)


@pytest.mark.parametrize(("head", "expected"), [
    ((0, 0, 0), losses.Box(0, 16, 0, 16)),
    ((0, 63, 95), losses.Box(47, 63, 79, 95)),
])
def test_face_box_stays_inside_the_frame(head: tuple[int, int, int], expected: losses.Box) -> None:
    assert face_box(body(head), 64, False) == expected


def test_no_face_no_box() -> None:
    assert face_box(body(), 64, False) is None
    assert face_box(body((0, 3, 3)), 64, openpose_only=True) is None


def test_openpose_faces_are_found_by_the_limb_colour() -> None:
    labels = torch.full((1, 3, 64, 64), -1.0)
    labels[0, :, 20, 32] = torch.tensor([153.0, 0.0, 51.0]) / 127.5 - 1
    assert face_box(labels, 64, openpose_only=True) == losses.Box(12, 28, 24, 40)
