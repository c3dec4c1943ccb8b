"""Between the steps and the monitor: sums losses over steps and ranks, measures time, takes samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames, viewable
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.step import ShownLane, StepResult
from vid2vid_dist.engine.run.timing import WAIT, Timer
from vid2vid_dist.monitor.gpu import GpuMeter
from vid2vid_dist.monitor.report import Sample, StepReport
from vid2vid_dist.monitor.run import RunMonitor
from vid2vid_dist.training.curriculum import Phase
from vid2vid_dist.training.health import Figures, accuracy_of, figure_shapes, gradient_shares_of, spreads_of


def loss_names(cfg: Config) -> list[str]:
    """Every loss that a step of this configuration may log, in a fixed order (spec: losses 8)."""
    names = ["L1", "G_GAN", "G_GAN_Feat", "D_real", "D_fake", "G_Warp"]
    names += [] if cfg.loss.no_vgg else ["G_VGG"]
    names += [] if cfg.generator.no_flow else ["F_Flow", "F_Warp"]
    names += ["W"] if cfg.generator.no_first_img and not cfg.generator.no_flow else []
    names += ["G_f_GAN", "G_f_GAN_Feat", "D_f_real", "D_f_fake"] if cfg.discriminator.add_face_disc else []
    for scale in range(cfg.discriminator.n_scales_temporal):
        names += [f"G_T_GAN{scale}", f"G_T_GAN_Feat{scale}", f"D_T_real{scale}", f"D_T_fake{scale}"]
    return names


class Reporter:
    """Collects what the monitor reports; talks to other ranks only when an interval ends."""

    def __init__(self, cfg: Config, grid: Grid, monitor: RunMonitor, figures: Callable[[], Figures] = dict) -> None:
        """`figures`: gives those of this rank since it was last asked (`health`)."""
        self._cfg, self._grid, self._monitor, self._figures = cfg, grid, monitor, figures
        self._meter = GpuMeter(grid.device)
        self._names = loss_names(cfg)
        self._shapes = {**dict.fromkeys(self._names, ()), **figure_shapes(cfg)}
        self._last: ShownLane | None = None  # of the step just done
        self._sample_is_due = False
        self.begin_interval()

    def begin_interval(self) -> None:
        """Forget what was noted: the interval counts from now."""
        self._sums: dict[str, Tensor] = {}
        self._counts = dict.fromkeys(self._names, 0)
        self._frames = self._steps = 0
        self._loader_wait = 0.0
        self._busy = self._waiting = 0.0
        self._started = time.monotonic()

    def wait(self, frames: Iterator[Frames]) -> Frames:
        """The next decoded frames; the time until they are there counts as waiting for data."""
        started = time.monotonic()
        decoded = next(frames)
        self._loader_wait += time.monotonic() - started
        return decoded

    def add(self, result: StepResult, active: list[str], n_frames: int) -> None:
        """Note one step: losses of this rank, generated frames of all ranks.

        No value is read back here: the host would wait for the GPU at every step.
        """
        for name, loss in result.losses.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(loss)) + loss
        for name, norm in result.squared_norms.items():
            key = f"squared_norm/{name}"
            self._sums[key] = self._sums.get(key, torch.zeros_like(norm)) + norm
        for name in self._names:
            scale = name[-1] if "_T_" in name else ""
            self._counts[name] += not scale or f"temporal_{scale}" in active
        self._last = result.last
        self._steps += 1
        self._frames += n_frames

    def add_times(self, timer: Timer) -> None:
        """Note how long this rank worked and waited for others, and clear the times."""
        for span in timer.take():
            if span.kind == WAIT:
                self._waiting += span.seconds
            elif not span.kind.startswith(("reduce/", "update/")):  # these run beside
                self._busy += span.seconds

    def sample_is_due(self, step: int) -> bool:
        """Whether pictures are made of a step (the number of steps done with it); the same on all ranks."""
        every = self._cfg.monitor.pictures_every
        return bool(every) and step % every == 0

    def after_step(self, step: int, epoch: int, now: Phase, steps_left: float) -> bool:
        """Report and sample when it is time; True at the end of an interval.

        `step`: optimiser steps done, `steps_left`: an estimate of those to come.
        """
        monitor = self._cfg.monitor
        if self._grid.is_first and self.sample_is_due(step):
            self._sample_is_due = True
        if self._sample_is_due and self._last:  # later, if rank 0's lanes rest in this step
            self._monitor.sample(step, make_sample(self._cfg, self._last))
            self._sample_is_due = False
        self._last = None  # a chunk of one-hot labels is large: not beside the next one
        if step % monitor.log_every:
            return False
        seconds, totals = time.monotonic() - self._started, self._totals()
        spreads = spreads_of(totals)
        norms = {role.removeprefix("norm/"): float(x) for role, x in totals.items() if role.startswith("norm/")}
        readings = self._grid.gather((self._meter.read(), self._busy / seconds, self._waiting / seconds))
        gpus, busy, waiting = map(list, zip(*readings, strict=True))
        self._monitor.report(
            StepReport(
                step=step,
                epoch=epoch,
                steps=self._steps,
                seconds=seconds,
                loader_wait=self._loader_wait,
                frames=self._frames,
                losses={name: float(totals[name]) / n for name, n in self._counts.items() if n},
                lr={"G": now.lr_generator, "D": now.lr_discriminator, "D_T": now.lr_temporal},
                eta=steps_left * seconds / self._steps,
                n_frames_total=now.n_frames_total,
                chunk_frames=now.chunk_frames,
                busy=busy if any(busy) else [],
                waiting=waiting if any(busy) else [],
                spreads=spreads,
                accuracy=accuracy_of(spreads),
                gradient_shares=gradient_shares_of(totals),
                gradient_norms={role: norm for role, norm in norms.items() if math.isfinite(norm)},
            ),
            gpus,
        )
        self.begin_interval()
        return True

    def _totals(self) -> dict[str, Tensor]:
        """Sums over the interval and over all ranks, losses and figures in one message."""
        mine = {**self._sums, **self._figures()}
        parts = [mine.get(name, torch.zeros(shape)).to(self._grid.device, torch.float64).flatten()
                 for name, shape in self._shapes.items()]
        summed = self._grid.sum(torch.cat(parts)).cpu()  # the one place where the host waits for the GPU
        split = summed.split([part.numel() for part in parts])
        return {name: x.view(shape) for (name, shape), x in zip(self._shapes.items(), split, strict=True)}


def make_sample(cfg: Config, made: ShownLane) -> Sample:
    """The first clip of a lane's chunk, as pictures want it."""
    chunk, generated, reference = made.chunk, made.generated, made.reference

    def cpu(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[0].float().cpu()

    ids, planes = chunk.labels.ids, chunk.labels.planes
    labels = viewable(planes[0], cfg.data) if ids is None else ids[0]
    return Sample(
        labels=labels.float().cpu(),
        fake=generated.fake[0].float().cpu(),
        raw=generated.raw[0].float().cpu(),
        real=chunk.real[0].float().cpu(),
        flow=cpu(generated.flow),
        weight=cpu(generated.weight),
        flow_ref=cpu(reference.flow),
        conf_ref=cpu(reference.confidence),
    )
