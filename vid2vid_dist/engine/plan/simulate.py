"""What a plan would do when it runs: period, busy time and bubbles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vid2vid_dist.engine.plan.collection import without_collection
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


@without_collection()
def simulate(plan: Plan, n_steps: int = WARM_UP + 1, jitter: float = 0.0, seed: int = 0) -> Prediction:
    """Run the programs of a plan over and over, every slot in its order, waiting where it must.

    `jitter`: standard deviation of the durations, relative; without it one step after the warm-up is like another.
    Messages from one slot to another follow each other; reductions run beside the tasks.
    """
    assert n_steps > WARM_UP
    rng = np.random.default_rng(seed)
    machine = _Machine(plan)
    ends = []
    for number in range(n_steps):
        if number == WARM_UP:
            machine.worked = [0.0] * plan.layout.n_slots
        machine.step((1 + jitter * rng.standard_normal(len(plan.sequence))).clip(0.1).tolist())
        ends.append(max(machine.clock))
    n_counted = n_steps - WARM_UP
    period = (ends[-1] - ends[WARM_UP - 1]) / n_counted
    return Prediction(period, [seconds / n_counted / period for seconds in machine.worked], machine.timeline())


class _Machine:
    """Slots and links that go through a plan. `clock`: when each slot is free, in seconds; `worked`: how long it did.

    `_times`: when task i has ended, then when each message has arrived, then when what the step before left is there.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, n_tasks = plan, len(plan.tasks)
        self.clock, self.worked = [0.0] * plan.layout.n_slots, [0.0] * plan.layout.n_slots
        transfers = [item for item in plan.sequence if not isinstance(item, Run)]
        arrival = {(item.producer, item.destination): n_tasks + i for i, item in enumerate(transfers)}
        links = {pair: i for i, pair in enumerate({(item.source, item.destination): None for item in transfers})}
        left: dict[tuple[Site, TensorKind], int] = {}
        self._heirs: list[tuple[int, int]] = []  # (where in the times it comes from, where it is left)
        for task in plan.tasks:
            for part, site in task.to_next_step:
                at = left.setdefault((site, part.kind), n_tasks + len(transfers) + len(left))
                self._heirs.append((arrival.get((task.number, plan.assignment[site]), task.number), at))
        self._times, self._link = [0.0] * (n_tasks + len(transfers) + len(left)), [0.0] * len(links)
        self._waits: list[list[int]] = []  # by item: what a task waits for; of a message, what it carries, and its link
        self._begins: list[float] = [0.0] * len(plan.sequence)  # of the items that are runs, and their ends
        self._ends = list(self._begins)
        for item in plan.sequence:
            if not isinstance(item, Run):
                self._waits.append([item.producer, links[item.source, item.destination],
                                    arrival[item.producer, item.destination]])
            elif item.task.site is None:
                self._waits.append([])
            else:
                task, slot = item.task, item.slot
                self._waits.append([arrival.get((need.task, slot), need.task) for need in task.needs]
                                   + [left[task.site, kind] for kind in task.from_last_step
                                      if task.site and (task.site, kind) in left])

    def step(self, factors: list[float]) -> None:
        """One step; advances the clocks."""
        clock, times, link, durations = self.clock, self._times, self._link, self.plan.durations
        begun: dict[int, list[int]] = {}  # items of a reduction, by task
        updates: list[int] = []
        for index, (item, waits) in enumerate(zip(self.plan.sequence, self._waits, strict=True)):
            if not isinstance(item, Run):
                producer, way, arrived = waits
                link[way] = times[arrived] = max(times[producer], link[way]) + item.seconds
            elif item.task.kind == Kind.REDUCE:
                self._begins[index] = clock[item.slot]
                begun.setdefault(item.task.number, []).append(index)
            elif item.task.kind == Kind.UPDATE:
                updates.append(index)
            else:
                start, slot = clock[item.slot], item.slot
                for wait in waits:
                    if times[wait] > start:
                        start = times[wait]
                duration = durations[item.task.number] * factors[index]
                self._begins[index], self.worked[slot] = start, self.worked[slot] + duration
                clock[slot] = times[item.task.number] = self._ends[index] = start + duration
        # Whether the weights change is decided by all ranks together: see `Updates`.
        clock[:] = [max(*clock, self._reduce(begun))] * len(clock)
        for index in updates:
            run = self.plan.sequence[index]
            assert isinstance(run, Run)
            duration = durations[run.task.number] * factors[index]
            self._begins[index], self.worked[run.slot] = clock[run.slot], self.worked[run.slot] + duration
            clock[run.slot] = self._ends[index] = clock[run.slot] + duration
        for _, at in self._heirs:
            times[at] = 0.0
        for source, at in self._heirs:
            times[at] = max(times[at], times[source])

    def _reduce(self, begun: dict[int, list[int]]) -> float:
        """When the reductions of a step end: each goes on once the last holder has begun it, and has done the one
        before."""
        free = [0.0] * len(self.clock)
        slots = {index: run.slot for indices in begun.values() for index in indices
                 if isinstance(run := self.plan.sequence[index], Run)}
        for number, indices in begun.items():
            end = max(max(self._begins[i], free[slots[i]]) for i in indices) + self.plan.durations[number]
            for i in indices:
                free[slots[i]] = self._ends[i] = end
        return max(free)

    def timeline(self) -> list[Run]:
        """The runs of the last step: tasks as they are planned, then reductions, then updates."""
        runs = [Run(item.task, item.slot, begin, end) for item, begin, end in zip(
            self.plan.sequence, self._begins, self._ends, strict=True) if isinstance(item, Run)]
        turn = {Kind.REDUCE: 1, Kind.UPDATE: 2}
        return sorted(runs, key=lambda run: turn.get(run.task.kind, 0))
