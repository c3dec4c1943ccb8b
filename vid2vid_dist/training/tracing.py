"""Records chosen steps of a run: `monitor.trace_steps`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.pipeline import Pipeline
from vid2vid_dist.engine.run.timing import Span
from vid2vid_dist.monitor.logs import nonfatal
from vid2vid_dist.monitor.trace import TracedStep, write_costs, write_trace


class Tracer:
    """Writes `traces/steps_A-B.json`, all ranks beside their plans, and `traces/costs.json` when the last of the steps
    is done."""

    def __init__(self, cfg: Config, grid: Grid, run_dir: Path) -> None:
        self._grid, self._folder = grid, run_dir / "traces"
        self._name = f"steps_{cfg.monitor.trace_steps}"
        first, _, last = cfg.monitor.trace_steps.partition("-")
        self._steps = range(int(first), int(last or first) + 1) if first else range(0)
        self._began = 0.0
        self._traced: list[TracedStep] = []

    @contextmanager
    def around(self, step: int, pipeline: Pipeline) -> Iterator[None]:
        """Around a step of all ranks."""
        if step not in self._steps:
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
            spans = [Span(s.name, s.key, s.start - zero, s.end - zero, s.units) for s in timer.spans[n_before:]]
            mine = TracedStep(self._grid.rank, step, zero - self._began, spans, pipeline.planned_runs())
            self._traced += self._grid.gather(mine)
            if step == self._steps[-1] and self._grid.is_first:
                with nonfatal("traces"):
                    write_trace(self._folder / f"{self._name}.json", self._traced)
                    write_costs(self._folder / "costs.json", self._traced)
