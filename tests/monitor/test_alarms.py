"""Alarms go off for sick figures, once, and not for healthy ones."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vid2vid_dist.config.schema import Config
from vid2vid_dist.monitor.alarms import REPORTS, SAMPLES, Alarms
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.monitor.report import Sample, StepReport
from vid2vid_dist.monitor.run import RunMonitor

MakeReport = Callable[..., StepReport]
MakeSample = Callable[..., Sample]


def accuracy(image: float, temporal: float = 0.7) -> dict[str, float]:
    return {"image/real": image, "image/fake": 1.0, "temporal_0/real": temporal, "temporal_0/fake": 1.0}


def test_a_saturated_discriminator_is_told_once_each_time(make_report: MakeReport) -> None:
    alarms = Alarms()
    told = [alarms.of_report(make_report(step, accuracy=accuracy(0.99))) for step in range(2 * REPORTS)]
    assert [len(lines) for lines in told] == [0] * (REPORTS - 1) + [1] + [0] * REPORTS
    assert "discriminator image" in told[REPORTS - 1][0]
    assert alarms.of_report(make_report(0, accuracy=accuracy(0.9))) == []
    again = [alarms.of_report(make_report(step, accuracy=accuracy(0.99, 0.99))) for step in range(REPORTS)]
    assert [line.split(" is ")[0] for line in again[-1]] == ["discriminator image", "discriminator temporal_0"]


def test_one_side_alone_is_no_saturation(make_report: MakeReport) -> None:
    alarms = Alarms()
    assert not any(alarms.of_report(make_report(step, accuracy=accuracy(0.5))) for step in range(2 * REPORTS))


@pytest.mark.parametrize("factor", [100.0, float("nan")])
def test_exploding_flow_is_told_once(make_sample: MakeSample, factor: float) -> None:
    alarms, sample = Alarms(), make_sample(4)
    assert sample.flow is not None
    sick = replace(sample, flow=sample.flow * factor)
    assert alarms.of_sample(sample)[0] == []
    lines, figures = alarms.of_sample(sick)
    assert [line.split(":")[0] for line in lines] == ["flow explodes"]
    assert figures["flow_ref"] < 16
    assert alarms.of_sample(sick)[0] == []


@pytest.mark.parametrize("n_frames", [1, 4])
def test_frozen_samples_are_told_once(make_sample: MakeSample, n_frames: int) -> None:
    """Within a chunk, or from sample to sample where a chunk has one frame."""
    alarms, noise = Alarms(), torch.Generator().manual_seed(1)
    told = []
    for _ in range(SAMPLES + 3):
        sample = make_sample(n_frames)
        real = torch.rand(sample.real.shape, generator=noise)
        told += alarms.of_sample(replace(sample, fake=torch.zeros_like(real), real=real))[0]
    assert [line.split(":")[0] for line in told] == ["samples are frozen"]


def test_a_standing_camera_is_no_frozen_sample(make_sample: MakeSample) -> None:
    alarms, sample = Alarms(), make_sample(4)
    still = replace(sample, fake=torch.zeros_like(sample.fake), real=torch.zeros_like(sample.real))
    for _ in range(SAMPLES + 1):
        lines, figures = alarms.of_sample(still)
        assert lines == []
        assert "motion" not in figures


def test_alarms_are_logged_and_kept(tmp_path: Path, make_report: MakeReport, caplog: pytest.LogCaptureFixture) -> None:
    cfg = Config()
    cfg.monitor.tensorboard = False
    monitor = RunMonitor(tmp_path, cfg, 0, 1)
    with caplog.at_level(logging.WARNING):
        for step in range(1, REPORTS + 3):
            monitor.report(make_report(step, accuracy=accuracy(0.99)), [None])
    monitor.close()
    (event,) = read_journal(tmp_path).events
    assert event["event"].startswith("alarm: discriminator image is saturated: 99.0%")
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["WARNING"]
