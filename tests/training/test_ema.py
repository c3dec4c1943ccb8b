"""The averaged generator."""

import pytest
import torch
from torch import nn

from vid2vid_dist.models.spectral import VECTORS, advance, spectrally_normalised
from vid2vid_dist.training.ema import Ema


def test_average_forgets_at_the_rate_of_the_decay() -> None:
    module = nn.Linear(3, 2, dtype=torch.float64)
    start = module.weight.detach().clone()
    ema = Ema(module, decay=0.9)
    assert ema.average["weight"].equal(start)
    with torch.no_grad():
        module.weight.add_(1.0)
    for _ in range(5):
        ema.update(module, None)
    torch.testing.assert_close(ema.average["weight"], start + 1 - 0.9**5, rtol=0, atol=1e-14)


def test_average_is_the_weighted_mean_of_all_weights() -> None:
    module, decay = nn.Linear(1, 1, bias=False, dtype=torch.float64), 0.75
    ema, weights = Ema(module, decay), [module.weight.item()]
    for value in (3.0, -1.0, 0.5):
        module.weight.data.fill_(value)
        ema.update(module, None)
        weights.append(value)
    shares = [decay**3, *((1 - decay) * decay**age for age in (2, 1, 0))]
    assert float(ema.average["weight"]) == pytest.approx(sum(s * w for s, w in zip(shares, weights, strict=True)))


def test_first_updates_keep_less_of_what_was() -> None:
    """The random weights of the start are all but gone after some updates, whatever the decay."""
    module = nn.Linear(3, 2, dtype=torch.float64)
    ema, start = Ema(module, decay=0.999), module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1.0)
    kept = 1.0
    for number in range(20):
        ema.update(module, number)
        kept *= (1 + number) / (10 + number)
    torch.testing.assert_close(ema.average["weight"], start + 1 - kept, rtol=0, atol=1e-14)
    assert kept < 1e-6


def test_small_steps_of_bfloat16_weights_are_not_lost() -> None:
    module = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    module.weight.data.fill_(1.0)
    ema = Ema(module, decay=0.999)
    module.weight.data.fill_(1.0078125)  # the next number that bfloat16 has
    ema.update(module, None)
    assert ema.average["weight"].dtype == torch.float32
    assert float(ema.average["weight"]) == pytest.approx(1 + 0.0078125e-3, abs=1e-7)


def test_counters_are_copied() -> None:
    module = nn.BatchNorm2d(2)
    ema = Ema(module, decay=0.9)
    module(torch.randn(4, 2, 3, 3))
    ema.update(module, None)
    assert ema.average["num_batches_tracked"] == 1


def test_vectors_of_spectral_norms_are_those_of_now() -> None:
    """Means of unit vectors are shorter: the kernels would come out longer."""
    module = spectrally_normalised(nn.Sequential(nn.Conv2d(3, 5, 3, bias=False)))
    ema = Ema(module, decay=0.9)
    module[0].parametrizations.weight.original.data.normal_()  # type: ignore[union-attr, operator]
    advance(module)
    ema.update(module, None)
    now = module.state_dict()
    same = {name for name, x in ema.average.items() if x.equal(now[name])}
    assert same == {f"0.{name}" for name in VECTORS}
