"""The figures of a generated frame beside those of the real one."""

import pytest
import torch

from vid2vid_dist.config.schema import DataConfig, FlowConfig
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.images import to_float
from vid2vid_dist.inference.panels import FrameView, Look
from vid2vid_dist.models.flow import build_flow
from vid2vid_dist.models.warp_error import FIGURES, warp_error


def test_the_real_frames_have_a_warp_error_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    scene = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 40, generator=generator), scale_factor=4)
    pictures = torch.cat([(255 * scene[..., 3 * t : 3 * t + 96]).byte() for t in range(3)])
    real, fake = to_float(pictures, torch.float32), torch.rand(3, 3, 64, 96, generator=generator) * 2 - 1
    flow = build_flow(FlowConfig())
    view = FrameView([Look()], DataConfig(label_nc=3), flow)
    for t, picture in enumerate(pictures):
        frame = Frames(torch.zeros(1, 1, 64, 96, dtype=torch.uint8), picture[None], None, [str(t)])
        _, figures = view.panels(frame, fake[t : t + 1])
        assert figures["L1 to real"] == pytest.approx(float((fake[t] - real[t]).abs().mean()))
        if not t:
            assert {*figures}.isdisjoint(FIGURES)
            continue
        now, before = slice(t, t + 1), slice(t - 1, t)
        with torch.no_grad():
            reference = flow(real[now], real[before])
        for name, frames in zip(FIGURES, (fake, real), strict=True):
            expected = warp_error(frames[now], frames[before], reference)
            assert figures[name] == pytest.approx(float(expected.mean), rel=1e-5)
        assert figures["warp error"] > 2 * figures["warp error of the real"] > 0
