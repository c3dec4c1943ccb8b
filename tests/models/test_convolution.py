"""Convolutions in other forms equal plain ones, forward and backward."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vid2vid_dist.models.convolution import FEW, LEAST_CHANNELS, Conv7x7, MinimalConv, prepared

OUT = LEAST_CHANNELS + 8
SIZES = [(4, 4), (7, 10), (9, 9), (18, 34)]  # the last has enough pixels for larger tiles
KERNELS = [(3, 0), (3, 1), (4, 2)]  # size, padding


def outcome(conv: nn.Module, x: torch.Tensor, parameters: list[nn.Parameter]) -> list[torch.Tensor]:
    """Output, and the gradients to input and parameters of a weighted sum of it."""
    x = x.clone().requires_grad_()
    out = conv(x)
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    return [out.detach(), *torch.autograd.grad((weights * out).sum(), [x, *parameters])]


def pair(dtype: torch.dtype, size: int, padding: int) -> tuple[MinimalConv, nn.Conv2d]:
    torch.manual_seed(0)
    ours = MinimalConv(LEAST_CHANNELS, OUT, size, padding).to(dtype)
    plain = nn.Conv2d(LEAST_CHANNELS, OUT, size, padding=padding).to(torch.float64)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("size", "layout"), list(product(SIZES, [torch.contiguous_format, torch.channels_last])))
def test_equals_the_plain_convolution(kernel: tuple[int, int], size: tuple[int, int],
                                      layout: torch.memory_format) -> None:
    ours, plain = pair(torch.float64, *kernel)
    x = torch.randn(2, LEAST_CHANNELS, *size, dtype=torch.float64).contiguous(memory_format=layout)
    found, expected = (outcome(conv, x, list(conv.parameters())) for conv in (ours, plain))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not found[0].equal(expected[0]), "computed by the same sums: nothing was compared"


@pytest.mark.parametrize("size", SIZES)
def test_a_prepared_kernel_gives_the_same(size: tuple[int, int]) -> None:
    ours, plain = pair(torch.float64, 3, 0)
    x = torch.randn(2, LEAST_CHANNELS, *size, dtype=torch.float64)
    frozen = prepared(nn.Sequential(ours))
    with torch.no_grad():
        torch.testing.assert_close(frozen(x), plain(x), rtol=1e-12, atol=1e-12)
    assert not list(frozen.parameters())


@pytest.mark.parametrize("kernel", KERNELS)
def test_can_be_differentiated_twice(kernel: tuple[int, int]) -> None:
    """For penalties on gradients."""
    def penalty_gradient(conv: nn.Conv2d) -> torch.Tensor:
        x = torch.randn(1, LEAST_CHANNELS, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        gradient, = torch.autograd.grad(conv(x.requires_grad_()).square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), conv.weight)[0]

    found, expected = map(penalty_gradient, pair(torch.float64, *kernel))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("is_leaf", [True, False])
def test_computes_the_gradients_that_are_asked_for(is_leaf: bool) -> None:
    conv = MinimalConv(LEAST_CHANNELS, OUT, 4, padding=2)
    leaf = torch.randn(1, LEAST_CHANNELS, 12, 12, requires_grad=True)
    x = leaf if is_leaf else 2 * leaf
    out = conv(x).sum()

    def cost(*wanted: torch.Tensor) -> int:
        with FlopCounterMode(display=False) as counter:
            torch.autograd.grad(out, wanted, retain_graph=True)
        return counter.get_total_flops()

    assert cost(conv.bias) == 0
    assert 0 < cost(x) < 0.7 * cost(x, conv.weight)
    assert 0 < cost(conv.weight) < 0.7 * cost(x, conv.weight)
    out.backward()
    assert all(tensor.grad is not None for tensor in (leaf, conv.weight, conv.bias))


@pytest.mark.parametrize("kernel", KERNELS)
def test_keeps_its_input_alone(kernel: tuple[int, int]) -> None:
    kept = []
    x = torch.randn(1, LEAST_CHANNELS, 12, 12, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda x: x):
        conv = MinimalConv(LEAST_CHANNELS, OUT, *kernel)
        conv(x)
    assert kept == [x.shape, conv.weight.shape]


@pytest.mark.parametrize("kernel", KERNELS)
def test_float32_rounds_little(kernel: tuple[int, int]) -> None:
    """Some times as much as the plain sum, whose error is 2e-7 to 1e-6."""
    ours, exact = pair(torch.float32, *kernel)
    x = torch.randn(1, LEAST_CHANNELS, 18, 34)
    expected = outcome(exact, x.double(), list(exact.parameters()))
    for found, wanted in zip(outcome(ours, x, list(ours.parameters())), expected, strict=True):
        assert (found.double() - wanted).norm() / wanted.norm() < 3e-6


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
    ours = MinimalConv(channels, channels, 3).to(dtype)
    x = torch.randn(1, channels, 8, 8, dtype=dtype)
    assert ours(x).equal(nn.functional.conv2d(x, ours.weight, ours.bias))
    assert prepared(nn.Sequential(ours))[0] is ours
    wide = Conv7x7(3, FEW if dtype == torch.bfloat16 else FEW + 1).to(dtype)
    assert wide(x[:, :3]).equal(nn.functional.conv2d(x[:, :3], wide.weight, wide.bias))
