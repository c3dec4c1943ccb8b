"""Decoded frames to what networks take."""

import pytest
import torch

from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.errors import UserError
from vid2vid_dist.network_input import encode_inputs, encode_pictures

CPU = torch.device("cpu")


def config(*overrides: str) -> Config:
    return load_config(None, ["data.label_nc=50", *overrides])


def video(first: int, end: int, width: int = 8) -> Frames:
    """Frames whose label is their number and whose pixels are five times it."""
    numbers = torch.arange(first, end, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    labels = numbers.expand(-1, 1, 8, width)
    return Frames(labels, 5 * numbers.expand(-1, 3, 8, width), labels.to(torch.int32), [])


def test_clips_of_a_lane_are_stacked() -> None:
    clips = [video(0, 6), video(20, 26)]
    encoded, real = encode_inputs(config("data.use_instance=true"), clips, CPU, torch.float64), encode_pictures(
        clips, CPU, torch.float64)
    assert encoded.dense().shape == (2, 6, 51, 8, 8)
    assert encoded.ids is not None
    assert encoded.ids[:, :, 0, 0, 0].tolist() == [list(range(6)), list(range(20, 26))]
    assert real.shape == (2, 6, 3, 8, 8)
    assert real.dtype == torch.float64
    torch.testing.assert_close((real[:, :, 0, 0, 0] / 2 + 0.5) * 255 / 5, encoded.ids[:, :, 0, 0, 0].double())


def test_clips_of_other_size_cannot_share_a_lane() -> None:
    clips = [video(0, 6), video(0, 6, width=16)]
    for encode in (lambda: encode_inputs(config(), clips, CPU, torch.float32),
                   lambda: encode_pictures(clips, CPU, torch.float32)):
        with pytest.raises(UserError, match=r"cannot share a lane \(16x8, 8x8\): set parallel\.batch_size=1"):
            encode()


def test_rgb_input_is_scaled_like_images() -> None:
    frames = video(0, 6)
    assert frames.images is not None
    drawn = Frames(frames.images, frames.images, None, [])
    encoded = encode_inputs(config("data.label_nc=0"), [drawn], CPU, torch.float64)
    assert encoded.ids is None
    assert torch.equal(encoded.planes, encode_pictures([drawn], CPU, torch.float64))
    assert encoded.planes.dtype == torch.float64


def test_regions_of_one_look_come_with_styles_only() -> None:
    clips = [video(0, 3)]
    plain, styled = (encode_inputs(config("data.use_instance=true", f"generator.style_nc={n}"), clips, CPU,
                                   torch.float32) for n in (0, 3))
    assert plain.regions is None
    assert styled.regions is not None
    assert styled.regions.shape == (1, 3, 1, 8, 8)
    assert len(styled.regions[0, 1].unique()) == 1  # one class, one instance
