"""Reports and samples to show."""

from collections.abc import Callable

import pytest
import torch

from vid2vid_dist.monitor.report import Sample, StepReport


@pytest.fixture
def make_report() -> Callable[..., StepReport]:
    def make(step: int, **changes: object) -> StepReport:
        fields: dict = {
            "epoch": 3, "steps": 10, "seconds": 8.0, "loader_wait": 0.2, "frames": 40,
            "losses": {"L1": 0.25, "G_GAN": 0.5}, "lr": {"G": 2e-4}, "eta": 7500.0,
            "n_frames_total": 12, "chunk_frames": 2,
        }
        return StepReport(step=step, **{**fields, **changes})

    return make


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    def make(n_frames: int, size: tuple[int, int] = (32, 64), flow: bool = True) -> Sample:
        generator = torch.Generator().manual_seed(0)

        def image(channels: int) -> torch.Tensor:
            return torch.rand(n_frames, channels, *size, generator=generator) * 2 - 1

        labels = torch.randint(0, 35, (n_frames, 1, *size), generator=generator).float()
        predicted = (image(2) * 5, image(1).abs()) if flow else (None, None)
        return Sample(labels, image(3), image(3), image(3), *predicted, image(2) * 5, image(1).abs())

    return make
