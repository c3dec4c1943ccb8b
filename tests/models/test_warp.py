"""Direction, units, borders and precision of the warp."""

import pytest
import torch

from vid2vid_dist.models.warp import warp


def test_ramp_is_read_one_and_a_half_pixels_to_the_right() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 5, 8)
    flow = torch.zeros(1, 2, 5, 8)
    flow[:, 0] = 1.5
    expected = torch.tensor([1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.0, 7.0])  # clamped at the border
    assert torch.allclose(warp(ramp, flow)[0, 0, 2], expected, atol=1e-5)


def test_second_channel_points_down() -> None:
    ramp = torch.arange(6.0)[:, None].expand(1, 1, 6, 4)
    flow = torch.zeros(1, 2, 6, 4)
    flow[:, 1] = -1.0
    expected = torch.tensor([0.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    assert torch.allclose(warp(ramp, flow)[0, 0, :, 1], expected, atol=1e-5)


def test_whole_pixel_flow_copies_pixels() -> None:
    image = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    flow = torch.zeros(2, 2, 8, 8, dtype=torch.float64)
    flow[:, 0], flow[:, 1] = 2, 3
    assert torch.allclose(warp(image, flow)[..., :5, :6], image[..., 3:, 2:], atol=1e-12)


def test_gradients_are_exact() -> None:
    image = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    flow = (torch.rand(1, 2, 4, 5, dtype=torch.float64) * 0.4 + 0.3).requires_grad_()  # off whole pixels
    assert torch.autograd.gradcheck(warp, (image, flow))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_positions_of_a_wide_image_are_exact_in_any_format(dtype: torch.dtype) -> None:
    image = (torch.arange(1024) % 2).to(dtype).expand(1, 1, 2, 1024)
    warped = warp(image, torch.zeros(1, 2, 2, 1024, dtype=dtype))
    assert warped.dtype == dtype
    assert torch.allclose(warped.float(), image.float(), atol=1e-2)


def test_flow_that_is_not_a_number_is_survived() -> None:
    """`grid_sample` alone writes its gradients to wild addresses."""
    flow = torch.full((1, 2, 64, 64), float("nan"), requires_grad=True)
    warp(torch.rand(1, 3, 64, 64), flow).sum().backward()
    assert flow.grad is not None
