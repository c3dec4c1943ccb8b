"""Records chosen steps of a run: `monitor.trace_steps`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.pipeline import Pipeline
from vid2vid_dist.engine.run.timing import Span
from vid2vid_dist.monitor.logs import nonfatal
from vid2vid_dist.monitor.trace import TracedStep, write_costs, write_trace


class Tracer:
    """Writes `traces/steps_A-B.json` and `traces/costs.json` when the last of the steps is done.

    A placed run shows tasks beside the plan, all ranks in one file. A data-parallel one has no plan: there PyTorch's
    profiler writes `traces/steps_A-B.rank_R.json`.
    """

    def __init__(self, cfg: Config, grid: Grid, run_dir: Path) -> None:
        self._grid, self._folder = grid, run_dir / "traces"
        self._name = f"steps_{cfg.monitor.trace_steps}"
        first, _, last = cfg.monitor.trace_steps.partition("-")
        self._steps = range(int(first), int(last or first) + 1) if first else range(0)
        self._began = 0.0
        self._traced: list[TracedStep] = []
        self._profiler: torch.profiler.profile | None = None

    @contextmanager
    def around(self, step: int, pipeline: Pipeline | None) -> Iterator[None]:
        """Around a step of all ranks."""
        if step not in self._steps:
            yield
        elif pipeline is None:
            with self._profiling(step):
                yield
        else:
            timer = pipeline.timer
            timer.on_device = self._grid.device.type == "cuda"
            n_before = len(timer.spans)
            self._grid.barrier()  # clocks of hosts differ: all count from here
            zero = time.perf_counter()
            self._began = self._began or zero
            yield
            timer.on_device = False
            spans = [Span(s.name, s.kind, s.start - zero, s.end - zero, s.units) for s in timer.spans[n_before:]]
            mine = TracedStep(self._grid.rank, step, zero - self._began, spans, pipeline.planned_runs())
            self._traced += self._grid.gather(mine)
            if step == self._steps[-1] and self._grid.is_first:
                with nonfatal("traces"):
                    write_trace(self._folder / f"{self._name}.json", self._traced)
                    write_costs(self._folder / "costs.json", self._traced)

    @contextmanager
    def _profiling(self, step: int) -> Iterator[None]:
        if self._profiler is None:
            self._profiler = torch.profiler.profile()
            self._profiler.start()
        yield
        if step == self._steps[-1]:
            self._profiler.stop()
            with nonfatal("traces"):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._profiler.export_chrome_trace(str(self._folder / f"{self._name}.rank_{self._grid.rank}.json"))
            self._profiler = None
