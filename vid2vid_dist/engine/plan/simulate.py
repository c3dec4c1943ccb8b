"""What a plan would do when it runs: period, busy time and bubbles."""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from vid2vid_dist.engine.plan.collection import without_collection
from vid2vid_dist.engine.plan.schedule import Plan, Run, Transfer
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
    rng, n_slots = np.random.default_rng(seed), plan.layout.n_slots
    machine = _Machine(plan)
    ends = []
    for number in range(n_steps):
        if number == WARM_UP:
            machine.worked = [0.0] * len(machine.worked)
        machine.step((1 + jitter * rng.standard_normal(len(plan.sequence))).clip(0.1).tolist())
        ends.append(max(machine.clock[:n_slots]))
    n_counted = n_steps - WARM_UP
    period = (ends[-1] - ends[WARM_UP - 1]) / n_counted
    return Prediction(period, [seconds / n_counted / period for seconds in machine.worked[:n_slots]],
                      machine.timeline())


def planned_runs(plan: Plan, slot: int) -> list[Run]:
    """A slot's part of a simulated step, which begins at 0."""
    timeline = simulate(plan).timeline
    start = min(run.start for run in timeline)
    return [replace(run, start=run.start - start, end=run.end - start) for run in timeline if run.slot == slot]


class _Machine:
    """Slots, then links, that go through a plan. `clock`: when each is free, in seconds; `worked`: how long it did.

    `_times`: when task i has ended, then when each message has arrived, then when what the step before left is there.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, n_tasks, n_slots = plan, len(plan.tasks), plan.layout.n_slots
        transfers = [item for item in plan.sequence if isinstance(item, Transfer)]
        arrival = {(item.producer, item.destination): n_tasks + i for i, item in enumerate(transfers)}
        links = {pair: n_slots + i
                 for i, pair in enumerate(dict.fromkeys((item.source, item.destination) for item in transfers))}
        left: dict[tuple[Site | None, TensorKind], int] = {}
        self._heirs: list[tuple[int, int]] = []  # (where in the times it comes from, where it is left)
        for task in plan.tasks:
            for part, site in task.to_next_step:
                at = left.setdefault((site, part.kind), n_tasks + len(transfers) + len(left))
                self._heirs.append((arrival.get((task.number, plan.assignment[site]), task.number), at))
        self._times = [0.0] * (n_tasks + len(transfers) + len(left))
        self.clock, self.worked = [0.0] * (n_slots + len(links)), [0.0] * (n_slots + len(links))
        self._begins, self._ends = [0.0] * len(plan.sequence), [0.0] * len(plan.sequence)
        # Items that take turns on a slot or a link, a reduction with no time of its own: (place in the sequence, slot
        # or link, its time in `_times`, those that it waits for, seconds).
        self._items: list[tuple[int, int, int, list[int], float]] = []
        self._reductions: dict[int, list[tuple[int, int]]] = defaultdict(list)  # (place, slot) by task
        self._updates: list[tuple[int, int, float]] = []  # (place, slot, seconds)
        for place, item in enumerate(plan.sequence):
            if isinstance(item, Transfer):
                way = item.source, item.destination
                self._items.append((place, links[way], arrival[item.producer, item.destination], [item.producer],
                                    item.seconds))
                continue
            task, slot, seconds = item.task, item.slot, plan.durations[item.task.number]
            if task.kind == Kind.UPDATE:
                self._updates.append((place, slot, seconds))
            elif task.kind == Kind.REDUCE:
                self._reductions[task.number].append((place, slot))
                self._items.append((place, slot, task.number, [], 0.0))
            else:
                waits = [arrival.get((need.task, slot), need.task) for need in task.needs]
                waits += [left[task.site, kind] for kind in task.from_last_step if (task.site, kind) in left]
                self._items.append((place, slot, task.number, waits, seconds))

    def step(self, factors: list[float]) -> None:
        """One step; advances the clocks. `factors`: of the durations of runs."""
        clock, times, n_slots = self.clock, self._times, self.plan.layout.n_slots
        for place, where, own, waits, seconds in self._items:
            start = clock[where]
            for wait in waits:
                if times[wait] > start:
                    start = times[wait]
            duration = seconds * factors[place] if where < n_slots else seconds
            self._begins[place], self.worked[where] = start, self.worked[where] + duration
            clock[where] = times[own] = self._ends[place] = start + duration
        reduced = [0.0] * n_slots
        for number, holders in self._reductions.items():  # once the last has begun it, and all have done the one before
            end = max(max(self._begins[place], reduced[slot]) for place, slot in holders) + self.plan.durations[number]
            for place, slot in holders:
                reduced[slot] = self._ends[place] = end
        # Whether the weights change is decided by all ranks together: see `Updates`.
        clock[:n_slots] = [max(*clock[:n_slots], *reduced)] * n_slots
        for place, slot, seconds in self._updates:
            duration = seconds * factors[place]
            self._begins[place], self.worked[slot] = clock[slot], self.worked[slot] + duration
            clock[slot] = self._ends[place] = clock[slot] + duration
        for _, at in self._heirs:
            times[at] = 0.0
        for source, at in self._heirs:
            times[at] = max(times[at], times[source])

    def timeline(self) -> list[Run]:
        """The runs of the last step: tasks as they are planned, then reductions, then updates."""
        runs = [Run(item.task, item.slot, begin, end) for item, begin, end in zip(
            self.plan.sequence, self._begins, self._ends, strict=True) if isinstance(item, Run)]
        turn = {Kind.REDUCE: 1, Kind.UPDATE: 2}
        return sorted(runs, key=lambda run: turn.get(run.task.kind, 0))
