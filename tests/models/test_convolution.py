"""Convolutions in other forms equal plain ones, forward and backward."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from vid2vid_dist.models.convolution import FEW, LEAST_CHANNELS, Conv3x3, Conv7x7, prepared

OUT = LEAST_CHANNELS + 8
SIZES = [(4, 4), (7, 10), (9, 9), (18, 34)]


def outcome(conv: nn.Module, x: torch.Tensor, parameters: list[nn.Parameter]) -> list[torch.Tensor]:
    """Output, and the gradients to input and parameters of a weighted sum of it."""
    x = x.clone().requires_grad_()
    out = conv(x)
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    return [out.detach(), *torch.autograd.grad((weights * out).sum(), [x, *parameters])]


def pair(dtype: torch.dtype) -> tuple[Conv3x3, nn.Conv2d]:
    torch.manual_seed(0)
    ours, plain = Conv3x3(LEAST_CHANNELS, OUT).to(dtype), nn.Conv2d(LEAST_CHANNELS, OUT, 3).to(torch.float64)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.mark.parametrize(("size", "layout"), list(product(SIZES, [torch.contiguous_format, torch.channels_last])))
def test_equals_the_plain_convolution(size: tuple[int, int], layout: torch.memory_format) -> None:
    ours, plain = pair(torch.float64)
    x = torch.randn(2, LEAST_CHANNELS, *size, dtype=torch.float64).contiguous(memory_format=layout)
    found, expected = (outcome(conv, x, list(conv.parameters())) for conv in (ours, plain))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not found[0].equal(expected[0]), "computed by the same sums: nothing was compared"
    frozen = prepared(nn.Sequential(ours))
    with torch.no_grad():
        torch.testing.assert_close(frozen(x), expected[0], rtol=1e-12, atol=1e-12)
    assert not list(frozen.parameters())


def test_float32_is_nearly_as_exact_as_the_plain_sum() -> None:
    ours, exact = pair(torch.float32)
    x = torch.randn(1, LEAST_CHANNELS, 18, 34)
    plain = nn.Conv2d(LEAST_CHANNELS, OUT, 3)
    plain.load_state_dict(ours.state_dict())
    expected = outcome(exact, x.double(), list(exact.parameters()))
    for found, theirs, wanted in zip(outcome(ours, x, list(ours.parameters())),
                                     outcome(plain, x, list(plain.parameters())), expected, strict=True):
        error, usual = ((y.double() - wanted).norm() / wanted.norm() for y in (found, theirs))
        assert error < max(3 * usual, torch.tensor(1e-7))


@pytest.mark.parametrize("n_out", [1, FEW])
def test_7x7_with_few_outputs_equals_the_plain_convolution(n_out: int) -> None:
    torch.manual_seed(0)
    ours, plain = Conv7x7(5, n_out).double(), nn.Conv2d(5, n_out, 7).double()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 9, 12, dtype=torch.float64)
    found, expected = (outcome(conv, x, list(conv.parameters())) for conv in (ours, plain))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_others_are_left_to_torch(dtype: torch.dtype) -> None:
    """Narrow ones, where the transforms cost more, and number formats that would round too much."""
    channels = LEAST_CHANNELS if dtype == torch.bfloat16 else LEAST_CHANNELS // 2
    ours = Conv3x3(channels, channels).to(dtype)
    x = torch.randn(1, channels, 8, 8, dtype=dtype)
    assert ours(x).equal(nn.functional.conv2d(x, ours.weight, ours.bias))
    assert prepared(nn.Sequential(ours))[0] is ours
    wide = Conv7x7(3, FEW if dtype == torch.bfloat16 else FEW + 1).to(dtype)
    assert wide(x[:, :3]).equal(nn.functional.conv2d(x[:, :3], wide.weight, wide.bias))
