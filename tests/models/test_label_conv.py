"""The label convolution: looking up equals multiplying, forward and backward, and does none of the multiplications."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vid2vid_dist.engine.plan.counting import measure
from vid2vid_dist.models.label_conv import label_convolution
from vid2vid_dist.models.labels import EncodedLabels, encode_labels

N_CLASSES, T = 6, 3


def street(batch: int = 2, height: int = 24, width: int = 40) -> Tensor:
    """Ids (B, T, 1, H, W): boxes of one class each, some of a pixel, some at the border."""
    ids = torch.zeros(batch, T, 1, height, width, dtype=torch.uint8)
    boxes = [(0, 9, 0, 11, 1), (12, 13, 20, 21, 2), (3, 24, 25, 40, 3), (20, 24, 0, 3, 5), (10, 18, 30, 33, 4)]
    for frame in range(T):
        for top, bottom, left, right, number in boxes:
            ids[:, frame, 0, top:bottom, left + frame : right + frame] = number
    ids[-1] = ids[-1].flip(-1)
    return ids


def textbook(labels: EncodedLabels, conv: nn.Conv2d) -> Tensor:
    return conv(F.pad(labels.dense().flatten(1, 2), (3, 3, 3, 3), mode="reflect"))


def outcome(run: Callable[[], Tensor], conv: nn.Conv2d) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and gradients to weight and bias of a weighted sum of it."""
    conv.zero_grad()
    out = run()
    out.backward(torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out))
    assert conv.weight.grad is not None
    assert conv.bias is not None
    assert conv.bias.grad is not None
    return out.detach(), conv.weight.grad, conv.bias.grad


@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("labels", ["boxes", "noise", "one class"])
@pytest.mark.parametrize("edges", [True, False])
def test_equals_a_convolution_over_one_hot_planes(gather: bool, labels: str, edges: bool) -> None:
    torch.manual_seed(0)
    ids = {"boxes": street(), "noise": torch.randint(0, N_CLASSES, (2, T, 1, 16, 24)),
           "one class": torch.full((1, T, 1, 8, 8), 5)}[labels]
    encoded = encode_labels(ids, ids if edges else None, N_CLASSES, torch.float64)
    conv = nn.Conv2d(T * (N_CLASSES + edges), 5, 7).double()
    ours = outcome(lambda: label_convolution(encoded, conv, gather), conv)
    expected = outcome(lambda: textbook(encoded, conv), conv)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("gather", [True, False])
def test_float32_is_as_exact_as_the_textbook(gather: bool) -> None:
    """Against float64; one class covers half of a large frame, so that many numbers add up."""
    torch.manual_seed(0)
    ids = F.interpolate(street(1)[:, :, 0].float(), size=(192, 320)).to(torch.uint8)[:, :, None]
    exact = nn.Conv2d(T * N_CLASSES, 4, 7).double()
    conv = nn.Conv2d(T * N_CLASSES, 4, 7)
    conv.load_state_dict(exact.state_dict())
    encoded, wide = (encode_labels(ids, None, N_CLASSES, dtype) for dtype in (torch.float32, torch.float64))
    out, of_weight, _ = outcome(lambda: label_convolution(encoded, conv, gather), conv)
    expected, of_exact, _ = outcome(lambda: textbook(wide, exact), exact)
    assert (out - expected).abs().max() < 1e-6
    if gather:  # in float64, whatever the numbers are
        assert (of_weight - of_exact).norm() / of_exact.norm() < 1e-6


def test_bfloat16_rounds_once() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(T * N_CLASSES, 4, 7).bfloat16()
    encoded = encode_labels(street(), None, N_CLASSES, torch.bfloat16)
    out = label_convolution(encoded, conv, gather=True)
    assert out.dtype == torch.bfloat16
    wide = nn.Conv2d(T * N_CLASSES, 4, 7)
    wide.load_state_dict({name: value.float() for name, value in conv.state_dict().items()})
    exact = textbook(encode_labels(street(), None, N_CLASSES), wide)
    assert (out - exact).abs().max() <= 2 * exact.abs().max() * 2**-8  # the bias is added after


@pytest.mark.parametrize("edges", [True, False])
def test_a_style_is_added_to_classes_that_are_looked_up(edges: bool) -> None:
    """And it is given its gradient: what the encoder learns from."""
    torch.manual_seed(0)
    plain = encode_labels(street(), street() if edges else None, N_CLASSES, torch.float64)
    style = torch.rand(len(plain.planes), 2, *plain.planes.shape[-2:], dtype=torch.float64, requires_grad=True)
    conv = nn.Conv2d(T * (N_CLASSES + edges) + 2, 5, 7).double()
    dense = torch.cat([plain.dense().flatten(1, 2), style], dim=1)
    expected = conv(F.pad(dense, [3] * 4, mode="reflect"))
    found = label_convolution(replace(plain, style=style), conv, gather=True)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    gradients = [torch.autograd.grad(out.square().sum(), style)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_soft_labels_of_a_coarse_scale_are_multiplied() -> None:
    torch.manual_seed(0)
    soft = EncodedLabels(torch.rand(1, T, N_CLASSES, 8, 12, dtype=torch.float64))
    conv = nn.Conv2d(T * N_CLASSES, 5, 7).double()
    torch.testing.assert_close(label_convolution(soft, conv, gather=True), textbook(soft, conv))


def test_classes_cost_no_multiplications_and_no_planes() -> None:
    """By the planner's count: only the three planes of edges are multiplied and kept."""
    with torch.device("meta"):
        ids = torch.empty(1, T, 1, 256, 512, dtype=torch.uint8)
        encoded = EncodedLabels(torch.empty(1, T, 1, 256, 512), ids, 35)
        conv = nn.Conv2d(T * 36, 32, 7)
    looked_up, multiplied = (measure(conv, label_convolution, encoded, conv, gather)[0] for gather in (True, False))
    pixels = 256 * 512
    assert multiplied.flops == 2 * T * 36 * 49 * 32 * pixels
    assert looked_up.flops == 2 * T * 49 * 32 * pixels
    assert looked_up.saved < 1.1 * T * (4 + 1) * pixels
