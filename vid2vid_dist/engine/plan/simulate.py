"""What a plan would do when it runs: period, busy time and bubbles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from vid2vid_dist.engine.plan.schedule import Plan, Run
from vid2vid_dist.engine.plan.tasks import Kind, Site
from vid2vid_dist.engine.plan.tensors import TensorKind

WARM_UP = 2  # steps until a repeated plan runs at its own pace


@dataclass(frozen=True)
class Prediction:
    """A plan repeated step after step. `period`: seconds from one step to the next; `busy`: fraction of the
    period in which a slot computes, by slot; `timeline`: the runs of the last step as they would happen."""

    period: float
    busy: list[float]
    timeline: list[Run]

    @property
    def mean_busy(self) -> float:
        return sum(self.busy) / len(self.busy)


@dataclass
class _Clocks:
    """When slots, links and what the step before left are free or there, in seconds."""

    slot: list[float]
    link: dict[tuple[int, int], float] = field(default_factory=dict)
    from_last_step: dict[tuple[Site, TensorKind], float] = field(default_factory=dict)


def simulate(plan: Plan, n_steps: int = WARM_UP + 1, jitter: float = 0.0, seed: int = 0) -> Prediction:
    """Run the programs of a plan over and over, every slot in its order, waiting where it must.

    `jitter`: standard deviation of the durations, relative; without it one step after the warm-up is like another.
    Messages from one slot to another follow each other; reductions run beside the tasks.
    """
    assert n_steps > WARM_UP
    rng = np.random.default_rng(seed)
    clocks = _Clocks([0.0] * plan.layout.n_slots)
    ends, steps = [], []
    for _ in range(n_steps):
        factors = 1 + jitter * rng.standard_normal(len(plan.sequence))
        steps.append(_step(plan, clocks, factors.clip(0.1)))
        ends.append(max(clocks.slot))
    counted = steps[WARM_UP:]
    period = (ends[-1] - ends[WARM_UP - 1]) / len(counted)
    worked = [0.0] * plan.layout.n_slots
    for run in (run for step in counted for run in step if run.task.kind != Kind.REDUCE):
        worked[run.slot] += run.end - run.start
    return Prediction(period, [seconds / len(counted) / period for seconds in worked], steps[-1])


def _step(plan: Plan, clocks: _Clocks, factors: np.ndarray) -> list[Run]:
    """One step; advances the clocks."""
    ends: dict[int, float] = {}  # of tasks, by number
    arrivals: dict[tuple[int, int], float] = {}  # of messages, by producer and destination
    begun: dict[int, list[Run]] = {}  # reductions, by task
    updates: list[tuple[Run, float]] = []
    runs = []
    for item, factor in zip(plan.sequence, factors.tolist(), strict=True):
        if not isinstance(item, Run):
            pair = item.source, item.destination
            clocks.link[pair] = max(ends[item.producer], clocks.link.get(pair, 0.0)) + item.seconds
            arrivals[item.producer, item.destination] = clocks.link[pair]
            continue
        task, slot = item.task, item.slot
        if task.kind == Kind.UPDATE:
            updates.append((item, factor))
        elif task.kind == Kind.REDUCE:
            begun.setdefault(task.number, []).append(Run(task, slot, clocks.slot[slot], clocks.slot[slot]))
        else:
            waits = [arrivals.get((need.task, slot), ends[need.task]) for need in task.needs]
            waits += [clocks.from_last_step.get((task.site, kind), 0.0) for kind in task.from_last_step if task.site]
            start = max([clocks.slot[slot], *waits])
            clocks.slot[slot] = ends[task.number] = start + plan.durations[task.number] * factor
            runs.append(Run(task, slot, start, ends[task.number]))
    runs += _reduce(plan, begun)
    # Whether the weights change is decided by all ranks together: see `Updates`.
    agreed = max(run.end for run in runs)
    clocks.slot = [agreed] * len(clocks.slot)
    for item, factor in updates:
        start = clocks.slot[item.slot]
        clocks.slot[item.slot] = start + plan.durations[item.task.number] * factor
        runs.append(Run(item.task, item.slot, start, clocks.slot[item.slot]))
    clocks.from_last_step = {}
    for task in plan.tasks:
        for part, site in task.to_next_step:
            there = arrivals.get((task.number, plan.assignment[site]), ends[task.number])
            clocks.from_last_step[site, part.kind] = max(there, clocks.from_last_step.get((site, part.kind), 0.0))
    return runs


def _reduce(plan: Plan, begun: dict[int, list[Run]]) -> list[Run]:
    """The reductions of a step: each goes on once the last holder has begun it, and has done the one before."""
    runs: list[Run] = []
    free: dict[int, float] = {}  # by slot
    for number, parts in begun.items():
        start = max(max(run.start, free.get(run.slot, 0.0)) for run in parts)
        end = start + plan.durations[number]
        for run in parts:
            free[run.slot] = end
            runs.append(replace(run, end=end))
    return runs
