"""Direction and units of the reference flow, its confidence, and the size rule."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vid2vid_dist.config.schema import FlowConfig
from vid2vid_dist.errors import UserError
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.flow import NoFlow, RaftFlow, ReferenceFlow, build_flow

SHIFT = 5, 3  # pixels that the picture moves right and down from the previous to the current frame


def moving_texture(height: int = 96, width: int = 160) -> tuple[Tensor, Tensor]:
    """Current and previous frame (1, 3, H, W) in [-1, 1]."""
    noise = np.random.default_rng(0).random((height + 32, width + 32, 3), dtype=np.float32)
    picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, -1, 1, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    scene = torch.from_numpy(picture).permute(2, 0, 1)[None]
    x, y = 16, 16
    previous = scene[..., y:y + height, x:x + width]
    return scene[..., y - SHIFT[1]:, x - SHIFT[0]:][..., :height, :width], previous


class FixedFlow(nn.Module):
    """A network that works at one size only and always finds the same flow."""

    def __init__(self, size: tuple[int, int], flow: tuple[float, float]) -> None:
        super().__init__()
        self.size, self.flow = size, flow

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        return self.size

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        assert current.shape[-2:] == previous.shape[-2:] == self.size
        return current.new_tensor(self.flow).view(1, 2, 1, 1).expand(len(current), 2, *self.size)


def test_flow_points_from_the_current_to_the_previous_frame() -> None:
    current, previous = moving_texture()
    reference = build_flow(FlowConfig())(current, previous)
    inside = (..., slice(8, -8), slice(8, -8))
    assert torch.allclose(reference.flow[inside].mean(dim=(0, 2, 3)), -torch.tensor(SHIFT).float(), atol=0.1)
    assert reference.confidence[inside].mean() > 0.98


def test_confidence_is_the_rule_of_the_squared_difference() -> None:
    current = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    previous = current.clone()
    previous[..., 0, 0] = 0.08  # 3 * 0.08^2 = 0.0192
    previous[..., 0, 1] = 0.082  # 3 * 0.082^2 = 0.0202
    reference = ReferenceFlow(FixedFlow((4, 4), (0.0, 0.0)))(current, previous)  # type: ignore[arg-type]
    expected = torch.ones(4, 4, dtype=torch.float64)
    expected[0, 1] = 0
    assert torch.equal(reference.confidence[0, 0], expected)
    assert reference.flow.dtype == torch.float64


def test_each_axis_is_scaled_by_its_own_ratio() -> None:
    network = ReferenceFlow(FixedFlow((64, 128), (2.0, 2.0)))  # type: ignore[arg-type]
    image = torch.zeros(2, 3, 80, 144)
    reference = network(image, image)
    assert reference.flow.shape == (2, 2, 80, 144)
    assert reference.confidence.shape == (2, 1, 80, 144)
    assert torch.allclose(reference.flow[:, 0], torch.tensor(2 * 144 / 128))
    assert torch.allclose(reference.flow[:, 1], torch.tensor(2 * 80 / 64))


def test_frames_of_clips_are_folded_and_unfolded() -> None:
    current, previous = moving_texture()
    network = build_flow(FlowConfig())
    clips = [torch.stack([frame.expand(2, -1, -1, -1), frame.flip(3).expand(2, -1, -1, -1)], dim=1)
             for frame in (current, previous)]
    folded = network(*clips)
    assert folded.flow.shape == (2, 2, 2, 96, 160)
    assert folded.confidence.shape == (2, 2, 1, 96, 160)
    assert torch.equal(folded.flow[1, 1], network(current.flip(3), previous.flip(3)).flow[0])


def test_half_precision_frames_are_judged_in_full_precision() -> None:
    current, previous = (frame.bfloat16() for frame in moving_texture())
    reference = build_flow(FlowConfig())(current, previous)
    assert reference.flow.dtype == reference.confidence.dtype == torch.float32
    assert reference.confidence.mean() > 0.8


def test_nothing_is_trained() -> None:
    network = ReferenceFlow(RaftFlow(models.optical_flow.raft_small(weights=None)))
    network.train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    frame = torch.zeros(1, 3, 132, 128, requires_grad=True)
    reference = network(frame, frame)
    assert reference.flow.shape == (1, 2, 132, 128)
    assert not reference.flow.requires_grad


@pytest.mark.parametrize(("height", "width", "size"), [
    (256, 512, (256, 512)), (448, 899, (448, 896)), (64, 130, (128, 128))])
def test_raft_gets_sizes_that_it_can_take(height: int, width: int, size: tuple[int, int]) -> None:
    assert RaftFlow(nn.Identity()).size_for(height, width) == size


@pytest.mark.parametrize("network", ["raft_small", "raft_large"])
def test_raft_without_weights_says_what_to_do(network: str) -> None:
    with pytest.raises(UserError, match=rf"no weights file .*flow\.weights.*{network}.*flow\.network=dis"):
        build_flow(FlowConfig(network=network))


def test_no_flow_is_trusted_nowhere() -> None:
    clips = torch.ones(2, 3, 3, 8, 16, dtype=torch.bfloat16)
    reference = NoFlow()(clips, clips)
    assert torch.equal(reference.flow, torch.zeros(2, 3, 2, 8, 16))
    assert torch.equal(reference.confidence, torch.zeros(2, 3, 1, 8, 16))
    with pytest.raises(UserError, match=r"add flow\.network=dis"):
        build_flow(FlowConfig(network="none"))
