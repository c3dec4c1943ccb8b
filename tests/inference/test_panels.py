"""The figures of a generated frame beside those of the real one."""

from __future__ import annotations

import pytest
import torch

from vid2vid_dist.config.schema import DataConfig, FlowConfig
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.images import to_float
from vid2vid_dist.inference.panels import FrameView, Look
from vid2vid_dist.models.flow import build_flow
from vid2vid_dist.models.warp_error import WarpErrorMeter


def test_the_real_frames_have_a_warp_error_of_their_own() -> None:
    """As two meters find it, which look for the flow twice."""
    generator = torch.Generator().manual_seed(0)
    scene = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 40, generator=generator), scale_factor=4)
    real = torch.cat([(255 * scene[..., 3 * t : 3 * t + 96]).byte() for t in range(3)])
    flow = build_flow(FlowConfig())
    fake_meter, real_meter = WarpErrorMeter(flow), WarpErrorMeter(flow)
    view = FrameView([Look()], DataConfig(label_nc=3), flow)
    for t in range(3):
        frame = Frames(torch.zeros(1, 1, 64, 96, dtype=torch.uint8), real[t : t + 1], None, [str(t)])
        fake, shown = torch.rand(1, 3, 64, 96, generator=generator) * 2 - 1, to_float(frame.images, torch.float32)
        _, figures = view.panels(frame, fake)
        expected = {"warp error": fake_meter.step(fake, shown), "warp error of the real": real_meter.step(shown, shown)}
        assert figures["L1 to real"] == pytest.approx(float((fake - shown).abs().mean()))
        for name, error in expected.items():
            assert figures.get(name) == (None if error is None else pytest.approx(float(error.mean), rel=1e-5))
        assert t == 0 or figures["warp error"] > 2 * figures["warp error of the real"] > 0
