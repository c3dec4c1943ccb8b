"""What is reported: means over the steps and clips in which a loss exists, frames of all ranks, pictures."""

from collections.abc import Callable
from unittest.mock import Mock

import pytest
import torch

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.tensors import What
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.engine.run.executor import StepResult
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.models.labels import EncodedLabels, encode_labels
from vid2vid_dist.training.curriculum import phase
from vid2vid_dist.training.reporter import Pictured, Reporter, make_sample
from vid2vid_dist.training.trainer import Trainer

Configure = Callable[..., Config]


@pytest.mark.parametrize("overrides", [
    (), ("generator.no_flow=true",), ("generator.no_first_img=true",), ("loss.no_ganFeat=true",),
    ("generator.no_first_img=true", "generator.no_flow=true"), ("discriminator.n_scales_temporal=0",),
])
def test_a_step_has_the_losses_that_are_announced(configure: Configure, grid: Grid, overrides: tuple[str, ...]) -> None:
    cfg = configure("run.max_steps=2", "monitor.log_every=2", "schedule.max_frames_per_rank=3",
                    "schedule.n_frames_total=6", *overrides)
    trainer = Trainer(cfg, grid)
    trainer.monitor.report = Mock()
    trainer.run()
    ((report, _),) = (call.args for call in trainer.monitor.report.call_args_list)
    assert sorted(report.losses) == sorted(loss.name for spec in role_specs(cfg).all for loss in spec.losses)
    assert sum(report.loss_shares.values()) == pytest.approx(1)
    assert "L1" not in report.loss_shares
    assert report.frames == 6
    assert (report.step, report.steps, report.chunk_frames) == (2, 2, 3)


def test_losses_are_means_over_the_steps_that_have_them(configure: Configure, grid: Grid) -> None:
    cfg, monitor = configure("monitor.log_every=4"), Mock()
    reporter = Reporter(role_specs(cfg), grid, monitor)
    now = phase(cfg, 1, 8)
    for step in range(1, 5):
        active = ["generator", "image"] + ["temporal_0"] * (step > 2)
        losses = {"L1": torch.tensor(float(step)), **({"D_T_real0": torch.tensor(6.0)} if step > 2 else {})}
        reporter.add(StepResult(losses), active, n_frames=5)
        assert reporter.after_step(step, 1, now, steps_left=8) == (step == 4)
    ((report, _),) = (call.args for call in monitor.report.call_args_list)
    assert report.losses["L1"] == 2.5
    assert report.losses["D_T_real0"] == 6.0
    assert (report.frames, report.steps) == (20, 4)
    assert report.eta == pytest.approx(8 * report.seconds / 4)
    # The next interval begins from nothing; a loss that no step of it has is not reported.
    for step in range(5, 9):
        reporter.add(StepResult({"L1": torch.tensor(1.0)}), ["generator", "image"], n_frames=5)
        reporter.after_step(step, 1, now, steps_left=4)
    report = monitor.report.call_args.args[0]
    assert report.losses["L1"] == 1.0
    assert "D_T_real0" not in report.losses


def made(label_nc: int) -> Pictured:
    """A chunk of two clips and two frames; class 3 everywhere, or an RGB input."""
    images = torch.rand(2, 2, 3, 8, 8)
    labels = encode_labels(torch.full((2, 2, 1, 8, 8), 3) if label_nc else torch.ones_like(images), None, label_nc)
    reference = torch.cat([torch.rand(2, 2, 2, 8, 8), torch.ones(2, 2, 1, 8, 8)], dim=2)
    frames = [{What.IMAGE: images[:, t] / 2, What.RAW: images[:, t] / 3, What.REFERENCE: reference[:, t]}
              for t in range(2)]
    return Pictured(labels, images, frames)


def test_sample_is_the_first_clip_of_the_chunk(configure: Configure) -> None:
    one = made(35)
    sample = make_sample(configure(), one)
    assert sample.labels.shape == (2, 1, 8, 8)
    assert (sample.labels == 3).all()
    assert sample.real.equal(one.real[0])
    assert sample.fake.equal(one.real[0] / 2)
    assert sample.raw.equal(one.real[0] / 3)
    assert (sample.flow, sample.weight) == (None, None)
    assert sample.flow_ref.shape == (2, 2, 8, 8)
    assert sample.conf_ref.equal(torch.ones(2, 1, 8, 8))
    rgb = make_sample(configure("data.label_nc=0"), made(0))
    assert rgb.labels.equal(made(0).labels.planes[0])


def test_pictures_wait_for_a_step_of_this_rank(configure: Configure, grid: Grid) -> None:
    """And nothing of a step is kept beyond it."""
    cfg, monitor = configure("monitor.pictures_every=2", "monitor.log_every=100"), Mock()
    reporter = Reporter(role_specs(cfg), grid, monitor)
    for step, last in enumerate([made(35), None, None, made(35), made(35), made(35)], 1):
        seen: tuple[EncodedLabels, torch.Tensor] | None = (last.labels, last.real) if last else None
        reporter.add(StepResult(shown=last.frames if last else []), ["generator"], n_frames=2, pictured=seen)
        reporter.after_step(step, 1, phase(cfg, 1, 8), steps_left=0)
        assert reporter._last is None
    assert [call.args[0] for call in monitor.sample.call_args_list] == [4, 6]
