"""How the cost of planning grows with the step: seconds against tasks, over three decades, and the exponent.

    python -m tools.bench_scaling   a line per step: planned, checked for hanging on GPUs and simulated, on one core
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tools.bench_plan import known_costs
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.queues import issued, stuck
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import make_plan
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.tasks import steady_shape


@dataclass(frozen=True)
class Step:
    """Ranks of one pipeline, lanes, and frames of a chunk."""

    n_ranks: int
    n_lanes: int
    n_frames: int


MORE_RANKS = (Step(8, 1, 6), Step(4, 4, 6), Step(16, 16, 6), Step(64, 64, 6), Step(256, 256, 6), Step(1024, 1024, 6))
LONGER = (Step(8, 1, 8), Step(8, 1, 80), Step(8, 1, 800), Step(8, 1, 6000))


def planning_seconds(specs: RoleSpecs, costs: Costs, step: Step) -> tuple[int, float]:
    """Tasks of a step, and seconds of this process to plan it, check it and simulate it."""
    started = time.process_time()
    tasks = step_tasks(specs, steady_shape(step.n_lanes, step.n_frames))
    plan = make_plan(tasks, colocated(specs, step.n_ranks), costs)
    assert not stuck([issued(plan, slot, plan.reductions) for slot in range(step.n_ranks)], n_queues=1)
    simulate(plan)
    return len(tasks), time.process_time() - started


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope in a drawing with both scales logarithmic."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def main() -> None:
    specs, costs = known_costs(512)
    for title, steps in (("more ranks and lanes", MORE_RANKS), ("longer chunks", LONGER)):
        measured = []
        for step in steps:
            # The smallest step of some: what else goes on weighs most in short times.
            n_tasks, seconds = min((planning_seconds(specs, costs, step) for _ in range(3 if step.n_ranks < 64 else 1)),
                                   key=lambda found: found[1])
            measured.append((n_tasks, seconds))
            print(f"{step.n_ranks:5d} ranks {step.n_lanes:5d} lanes {step.n_frames:5d} frames: {n_tasks:7d} tasks "
                  f"{seconds:8.3f} s", flush=True)
        sizes, times = (list(column) for column in zip(*measured, strict=True))
        print(f"{title}: time grows with the tasks to the power of {exponent(sizes, times):.2f}\n", flush=True)


if __name__ == "__main__":
    run_main(main)
