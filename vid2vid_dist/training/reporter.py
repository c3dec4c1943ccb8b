"""Between the steps and the monitor: sums losses over steps and ranks, measures time, takes samples."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.engine.plan.role import RateGroup, RoleSpecs
from vid2vid_dist.engine.plan.tasks import COLLECTIVE
from vid2vid_dist.engine.plan.tensors import What as Shows
from vid2vid_dist.engine.run.executor import StepResult
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.tensor_store import ShownFrame
from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.models.labels import EncodedLabels
from vid2vid_dist.monitor.gpu import GpuMeter
from vid2vid_dist.monitor.report import Sample, StepReport
from vid2vid_dist.monitor.run import RunMonitor
from vid2vid_dist.training.curriculum import Phase, warmth
from vid2vid_dist.training.health import (
    Figure,
    Figures,
    What,
    accuracy_of,
    figure_shapes,
    gradient_shares_of,
    loss_shares,
    spreads_of,
)

RATE_NAMES = {RateGroup.GENERATOR: "G", RateGroup.DISCRIMINATOR: "D", RateGroup.TEMPORAL: "D_T"}
"""Learning rates as they are logged."""


@dataclass(frozen=True)
class Pictured:
    """What pictures are made of: a lane's chunk, and what belongs to each of its frames (`Executor`)."""

    labels: EncodedLabels
    real: Tensor
    frames: list[ShownFrame]


class Reporter:
    """Collects what the monitor reports; talks to other ranks only when an interval ends."""

    def __init__(self, specs: RoleSpecs, grid: Grid, monitor: RunMonitor,
                 figures: Callable[[], Figures] = dict) -> None:
        """`figures`: gives those of this rank since it was last asked (`health`)."""
        self._cfg, self._grid, self._monitor, self._figures = specs.cfg, grid, monitor, figures
        self._meter = GpuMeter(grid.device)
        self._roles = {loss: spec for spec in specs.all for loss in spec.losses}
        self._shapes = {**{Figure(What.LOSS, loss.name): () for loss in self._roles}, **figure_shapes(specs)}
        self._last: Pictured | None = None  # of the step just done
        self._sample_is_due = False
        self.begin_interval()

    def begin_interval(self) -> None:
        """Forget what was noted: the interval counts from now."""
        self._sums: Figures = {}
        self._counts = dict.fromkeys((loss.name for loss in self._roles), 0)
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

    def add(self, result: StepResult, active: Sequence[str], n_frames: int,
            pictured: tuple[EncodedLabels, Tensor] | None = None) -> None:
        """Note one step: losses of this rank, generated frames of all ranks; `pictured`: labels and real frames of what
        is shown.

        No value is read back here: the host would wait for the GPU at every step.
        """
        for what, found in ((What.LOSS, result.losses), (What.SQUARED_NORM, result.squared_norms)):
            for name, value in found.items():
                key = Figure(what, name)
                self._sums[key] = self._sums[key] + value if key in self._sums else value
        for loss, spec in self._roles.items():
            self._counts[loss.name] += spec.rate is None or spec.name in active
        self._last = Pictured(*pictured, result.shown) if pictured else None
        self._steps += 1
        self._frames += n_frames

    def add_times(self, timer: Timer) -> None:
        """Note how long this rank worked and waited for others, and clear the times."""
        for span in timer.take():
            if span.key is None:
                self._waiting += span.seconds
            elif span.key.kind not in COLLECTIVE:  # these run beside
                self._busy += span.seconds

    def sample_is_due(self, step: int) -> bool:
        """Whether pictures are made of a step (the number of steps done with it); the same on all ranks."""
        every = self._cfg.monitor.pictures_every
        return bool(every) and step % every == 0

    def after_step(self, step: int, epoch: int, now: Phase, steps_left: float) -> bool:
        """Report and sample when it is time; True at the end of an interval.

        `step`: optimiser steps done, `steps_left`: an estimate of those to come; the last step ends an interval, too.
        """
        monitor = self._cfg.monitor
        if self._grid.is_first and self.sample_is_due(step):
            self._sample_is_due = True
        if self._sample_is_due and self._last:  # later, if rank 0's lanes rest in this step
            self._monitor.sample(step, make_sample(self._cfg, self._last))
            self._sample_is_due = False
        self._last = None  # a chunk of one-hot labels is large: not beside the next one
        if step % monitor.log_every and steps_left > 0:
            return False
        seconds, totals = time.monotonic() - self._started, self._totals()
        spreads = spreads_of(totals)
        norms = {name: float(x) for (what, name), x in totals.items() if what == What.NORM}
        losses = {name: float(totals[Figure(What.LOSS, name)]) / n for name, n in self._counts.items() if n}
        readings = self._grid.gather((self._meter.read(), self._busy / seconds, self._waiting / seconds))
        gpus, busy, waiting = map(list, zip(*readings, strict=True))
        self._monitor.report(StepReport(
            step=step, epoch=epoch, steps=self._steps, seconds=seconds, loader_wait=self._loader_wait,
            frames=self._frames, losses=losses,
            loss_shares=loss_shares([loss for loss in self._roles if loss.name in losses], losses),
            lr={short: warmth(self._cfg.optim, step) * now.rates[group].lr
                for group, short in RATE_NAMES.items()},
            eta=steps_left * seconds / self._steps, n_frames_total=now.n_frames_total, chunk_frames=now.chunk_frames,
            busy=busy if any(busy) else [], waiting=waiting if any(busy) else [],
            spreads=spreads, accuracy=accuracy_of(spreads), gradient_shares=gradient_shares_of(totals),
            gradient_norms={role: norm for role, norm in norms.items() if math.isfinite(norm)}), gpus)
        self.begin_interval()
        return True

    def _totals(self) -> Figures:
        """Sums over the interval and over all ranks, losses and figures in one message."""
        mine = {**self._sums, **self._figures()}
        wide: dict[str, Any] = {"device": self._grid.device, "dtype": torch.float64}
        parts = [(mine[figure].to(**wide) if figure in mine else torch.zeros(shape, **wide)).flatten()
                 for figure, shape in self._shapes.items()]
        summed = self._grid.sum(torch.cat(parts)).cpu()  # the host waits for the GPU here
        split = summed.split([part.numel() for part in parts])
        return {figure: x.view(shape) for (figure, shape), x in zip(self._shapes.items(), split, strict=True)}


def make_sample(cfg: Config, made: Pictured) -> Sample:
    """The first clip of a lane's chunk, as pictures want it."""
    def frames(what: Shows) -> Tensor:
        return torch.stack([frame[what][0] for frame in made.frames]).float().cpu()

    ids, planes = made.labels.ids, made.labels.planes
    labels = task_of(cfg.data).view(planes[0]) if ids is None else ids[0]
    flow, weight = (frames(what) if what in made.frames[0] else None for what in (Shows.FLOW, Shows.WEIGHT))
    reference = frames(Shows.REFERENCE)
    return Sample(labels=labels.float().cpu(), fake=frames(Shows.IMAGE), raw=frames(Shows.RAW),
                  real=made.real[0].float().cpu(), flow=flow, weight=weight, flow_ref=reference[:, :2],
                  conf_ref=reference[:, 2:])
