"""Golden training traces with the generator on one rank and all critics on another.

    torchrun --standalone --nproc_per_node 2 -m tools.parity.placed_trace GOLDEN

prints one line per trace; exit status 1 if one is out of tolerance.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.parity.__main__ import Row
from tools.parity.discover import discover
from tools.parity.trace import VIDEO, Outcome, compare, outcome, run, spread, stand_ins, stored_modules, weights
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.costs import count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.messages import FrameSize
from vid2vid_dist.engine.plan.placement import split
from vid2vid_dist.engine.plan.schedule import make_plan
from vid2vid_dist.engine.plan.tasks import Kind, LaneChunk, Need, Site, StepShape, Task
from vid2vid_dist.engine.roles.build import build_held_roles
from vid2vid_dist.engine.run.clip import ClipBuffer
from vid2vid_dist.engine.run.executor import Executor, HeldRoles
from vid2vid_dist.engine.run.grid import Grid, open_grid
from vid2vid_dist.engine.run.pipeline import left_at
from vid2vid_dist.engine.run.step import LaneWork, StepResult, unpack_shown
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.original.options import config_from_options
from vid2vid_dist.training.curriculum import phase
from vid2vid_dist.training.state import optimizers


class PlacedStep:
    """Runs a step of one lane over two ranks, in the place of `train_step`."""

    def __init__(self, cfg: Config, grid: Grid, roles: HeldRoles) -> None:
        self.cfg, self.grid = cfg, grid
        self._layout = split(cfg, 1, 1)
        self._executor = Executor(cfg, roles, grid.slot, Transport(grid), torch.float64)
        self._buffer: ClipBuffer | None = None
        self._where: dict[Site, int] = {}

    def __call__(self, roles: HeldRoles, work: list[LaneWork], active: list[str], n_frames_bp: int,
                 detach_coarse: bool) -> StepResult:
        (item,) = work
        lane, chunk = item.lane, item.chunk
        n_frames, height, width = chunk.real.shape[1], *chunk.real.shape[-2:]
        if self._buffer is None or chunk.is_first:
            size = FrameSize(len(chunk.real), height, width)
            self._buffer, self._where = ClipBuffer(self.cfg.generator.n_scales_spatial, size), {}
        buffer = self._buffer
        numbers = range(buffer.n_seen - chunk.n_past, buffer.n_seen + n_frames)
        buffer.add_labels(numbers, chunk.label_stack)
        buffer.add_real(numbers, chunk.real_stack)
        # The recorded optimiser never gets the scales that it began without (spec: quirks Q3).
        trains_all_scales = phase(self.cfg, 1, VIDEO).train_all_scales
        shape = StepShape((LaneChunk(buffer.n_seen, n_frames),), n_frames_bp=n_frames_bp,
                          train_all_scales=trains_all_scales)
        tasks = step_tasks(self.cfg, shape)
        if not chunk.is_first:
            follow_the_record(tasks, self.cfg.generator.n_scales_spatial - 1)
        costs = count_costs(self.cfg, height, width)
        plan = make_plan(tasks, self._layout, costs, fixed=self._where)
        result = self._executor.step(plan, shape, [LanePart(buffer, n_frames, item.share)], active, show=0)
        self._where = left_at(plan)
        lane.n_seen += n_frames
        shown = self.grid.from_first(result.shown)
        return StepResult(self._everybodys(result.losses), unpack_shown(chunk, shown))

    def _everybodys(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for of_rank in self.grid.gather(losses):
            for name, loss in of_rank.items():
                total[name] = total.get(name, torch.zeros_like(loss)) + loss
        return total


def follow_the_record(tasks: Sequence[Task], finest: int) -> None:
    """Past the first chunk the frame "before" a chunk is the chunk's own last one (see `trace.RecordedLane`)."""
    (first,) = (task for task in tasks if task.kind == Kind.FLOW_LOSS and task.frames == (0,))
    last = max((task for task in tasks if task.kind == Kind.SYNTHESIS and task.scale == finest),
               key=lambda task: task.frames)
    first.needs.append(Need(last.number, (f"image/{finest}",)))


def train(cfg: Config, grid: Grid, meta: dict[str, Any], tensors: dict[str, Tensor]) -> Outcome:
    """Our run of the trace; all ranks return the whole outcome."""
    now = phase(cfg, 1, VIDEO)
    roles = build_held_roles(cfg, grid.holders(split(cfg, 1, 1).slots), stored_modules(cfg, tensors), stand_ins(cfg),
                             optimizers(cfg, now), now.train_all_scales)
    initial = _union(grid, weights(roles))
    chunks = run(cfg, roles, meta, tensors, PlacedStep(cfg, grid, roles))
    return outcome(chunks, initial, _union(grid, weights(roles)))


def _union(grid: Grid, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for of_rank in grid.gather(tensors) for name, tensor in of_rank.items()}


def main() -> int:
    golden = Path(sys.argv[1])
    grid = open_grid("cpu").in_pipelines(2)
    failed = 0
    for case in discover(golden):
        if case.kind != "trace":
            continue
        started = time.perf_counter()
        cfg = config_from_options(case.options)
        cfg.optim.precision, cfg.optim.backend = "fp64", "plain"
        tensors = case.tensors()
        ours = train(cfg, grid, case.meta, tensors)
        if grid.is_first:
            checks = compare(case, ours, spread(cfg, case.meta, tensors) or ours)
            row = Row(replace(case, kind="placed_trace"), checks, time.perf_counter() - started)
            failed += not row.ok
            print(row.line(28), flush=True)
    grid.close()
    return int(failed > 0)


if __name__ == "__main__":
    run_main(main)
