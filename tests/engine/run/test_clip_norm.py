"""`optim.clip_norm` is torch's `clip_grad_norm_` over all tensors of a role, with every backend."""

import pytest
import torch
from torch import Tensor, nn

from tests.training.conftest import grid as grid
from vid2vid_dist.config.schema import OptimConfig
from vid2vid_dist.engine.roles.build import build_engine
from vid2vid_dist.engine.run.grid import Grid


def small_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def loss_of(module: nn.Module) -> Tensor:
    return module(torch.arange(6.0).view(2, 3)).square().sum()


@pytest.mark.parametrize("longest", [0.05, 1e3])
@pytest.mark.parametrize("optim", [
    {"backend": "plain"}, {"zero_stage": 1}, {"zero_stage": 2}, {"offload": True}], ids=str)
def test_gradients_are_shortened_as_by_torch(grid: Grid, optim: dict[str, object], longest: float) -> None:
    expected, module = small_module(), small_module()
    loss_of(expected).backward()
    norm = nn.utils.clip_grad_norm_(expected.parameters(), longest)
    assert 0.05 < norm < 1e3
    engine = build_engine(module, lambda p: torch.optim.SGD(p, lr=1.0),
                          OptimConfig(clip_norm=longest, **optim), grid)  # type: ignore[arg-type]
    before = [p.detach().clone() for p in module.parameters()]
    engine.begin()
    engine.backward(loss_of(module))
    engine.reduce()
    engine.step()
    assert float(engine.update_norm) == pytest.approx(float(norm), rel=1e-6)
    for start, p, wanted in zip(before, module.parameters(), expected.parameters(), strict=True):
        assert wanted.grad is not None
        torch.testing.assert_close(start - p.detach(), wanted.grad, rtol=1e-4, atol=1e-6)
    engine.close()
