"""Generator, flow and perceptual roles: what they say, and the gradients that they give and carry."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from vid2vid_dist.engine.roles.roles import CriticResult, FlowRole, GeneratorRole, PerceptualRole

from tests.engine.textbook import (
    LAMBDA,
    N_PAST,
    SHARE,
    B,
    H,
    T,
    W,
    assert_equal,
    chunk,
    config,
    engine,
    expected_gradients,
    gradients,
    made,
    noise,
)
from tools.parity.trace import StandInFlow
from vid2vid_dist.models.generator import GeneratedChunk, Generator
from vid2vid_dist.models.warp import warp


@pytest.mark.parametrize("overrides", [(), ("generator.no_flow=true",), ("generator.no_first_img=true",)], ids=str)
def test_flow_role(overrides: tuple[str, ...]) -> None:
    """Each gradient is that of the sum of the terms; the warped frame before is held constant."""
    cfg = config("generator.n_scales_spatial=2", *overrides)
    this, generated, before = chunk(cfg), made(cfg), noise(9, B, T, 3, H, W)
    role = FlowRole(cfg, StandInFlow())
    reference = role.reference(this.real, this.real_prev)
    result = role.evaluate(this, generated, before, reference)

    fake = generated.fake.clone().requires_grad_()
    mask, flow_ref = reference.confidence, reference.flow

    def warped(images: Tensor, flow: Tensor) -> Tensor:
        return warp(images.flatten(0, 1), flow.flatten(0, 1)).unflatten(0, (B, T))

    total = LAMBDA * ((fake - warped(before, flow_ref)) * mask).abs().mean()
    torch.testing.assert_close(result.losses["G_Warp"], total.detach())
    torch.testing.assert_close(result.fake, torch.autograd.grad(total, fake)[0])
    if generated.flow is None or generated.weight is None:
        assert set(result.losses) == {"G_Warp"}
        assert (result.flow, result.weight) == (None, None)
        return
    flow, weight = (x.clone().requires_grad_() for x in (generated.flow, generated.weight))
    total = LAMBDA / 2 * ((flow - flow_ref) * mask).abs().mean()
    total = total + LAMBDA * ((warped(this.real_prev, flow) - this.real) * mask).abs().mean()
    torch.testing.assert_close(result.losses["F_Flow"] + result.losses["F_Warp"], total.detach())
    torch.testing.assert_close(result.flow, torch.autograd.grad(total, flow)[0])
    if cfg.generator.no_first_img:
        torch.testing.assert_close(result.weight, torch.autograd.grad((weight * mask).abs().mean(), weight)[0])
    else:
        assert result.weight is None


def test_perceptual_role() -> None:
    class Features(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x * k + x.roll(k, dims=-1) ** 2 for k in range(1, 6)]

    cfg = config()
    this, generated = chunk(cfg), made(cfg)
    result = PerceptualRole(cfg, Features()).evaluate(this, generated)
    fake, raw = (x.clone().requires_grad_() for x in (generated.fake, generated.raw))
    weights, features = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), Features()
    total = torch.zeros((), dtype=torch.float64)
    for image in (fake, raw):
        for w, a, b in zip(weights, features(image), features(this.real), strict=True):
            total = total + LAMBDA * w * (a - b).abs().mean()
    torch.testing.assert_close(result.losses["G_VGG"], total.detach())
    torch.testing.assert_close([result.fake, result.raw], list(torch.autograd.grad(total, [fake, raw])))


@pytest.mark.parametrize("n_frames_bp", [1, 4])
def test_generator_carries_gradients_back_as_one_backward_would(n_frames_bp: int) -> None:
    cfg = config()
    torch.manual_seed(0)
    role = GeneratorRole(cfg, engine(Generator(cfg)))
    this = chunk(cfg)

    def loss(x: GeneratedChunk) -> Tensor:
        return (x.fake ** 2).mean() + (x.raw - 0.3).abs().mean() + (x.flow * x.weight).mean()

    generated = role.generate(this, [], n_frames_bp, detach_coarse=False)
    parts = [generated.fake, generated.raw, generated.flow, generated.weight]
    leaves = [x.detach().requires_grad_() for x in parts if x is not None]
    judged = GeneratedChunk(*leaves, [])
    result = CriticResult({}, *torch.autograd.grad(loss(judged), leaves))
    role.backward(generated, result, SHARE)
    found = gradients(role.module)
    again = role.generate(this, [], n_frames_bp, detach_coarse=False)
    assert_equal(found, expected_gradients(SHARE * loss(again), role.module))


def test_generator_starts_from_real_frames_or_from_nothing() -> None:
    this = chunk(config())
    real = this.real_stack[:, :N_PAST]
    for first, start in {"false": real, "true": torch.zeros_like(real)}.items():
        cfg = config(f"generator.no_first_img={first}")
        torch.manual_seed(0)
        role = GeneratorRole(cfg, engine(Generator(cfg)))
        found = role.generate(this, [], 1, detach_coarse=False)
        expected = role.module.generate(this.label_stack, role.module.start_history(start), raw_only=first == "true")
        torch.testing.assert_close(found.fake, expected.fake)
    torch.testing.assert_close(found.fake, found.raw)  # nothing to warp in the first chunk


def test_results_of_critics_add_up() -> None:
    one, two = CriticResult({"a": torch.tensor(1.0)}, fake=torch.ones(2)), CriticResult({"b": torch.tensor(2.0)})
    two.fake, two.flow = torch.ones(2), torch.full((2,), 3.0)
    one += two
    assert {name: float(value) for name, value in one.losses.items()} == {"a": 1.0, "b": 2.0}
    assert one.fake.tolist() == [2.0, 2.0]
    assert one.flow.tolist() == [3.0, 3.0]
    assert one.raw is None
