"""What no plan can beat: how long a step takes at least, whatever runs where and in which order."""

from collections import defaultdict
from dataclasses import dataclass

from vid2vid_dist.engine.plan.step_graph import StepGraph
from vid2vid_dist.engine.plan.tasks import Kind


@dataclass(frozen=True)
class Bound:
    """Seconds that a steady step takes at least. `path`: its longest chain of tasks, on any number of ranks, where
    messages take no time, and a role's reductions one after the other. `work`: all its work, shared evenly by the ranks
    that may do it. `rounds`: tasks of one kind that can all begin late only, in as many rounds as ranks need for them,
    and what follows. `busy`: the part of such a step in which the mean rank works."""

    path: float
    work: float
    rounds: float
    busy: float

    @property
    def step(self) -> float:
        return max(self.path, self.work, self.rounds)


def lower_bound(graph: StepGraph) -> Bound:
    """Of a step on a layout. All ranks update together when everything else is done, so no chain reaches into the next
    step, and each begins a step when it has done its updates."""
    layout, update = graph.layout, graph.update
    begin = {role: min(update[slot] for slot in slots) for role, slots in layout.slots.items()}
    ends = [0.0] * len(graph.tasks)
    by_slots = {frozenset(slots): 0.0 for slots in layout.slots.values()}
    reduced: dict[str, list[tuple[float, float]]] = defaultdict(list)  # by role: when it can begin, and how long it is
    for task, duration in zip(graph.tasks, graph.durations, strict=True):
        place = task.site.role if task.site else task.role
        start = max([begin[place], *(ends[need] for need, _ in graph.needs[task.number])])
        if task.kind == Kind.REDUCE:
            reduced[place].append((start, duration))
        if task.kind != Kind.UPDATE:
            ends[task.number] = start + duration
        if task.site:
            by_slots[frozenset(layout.slots[place])] += duration

    def share(of: frozenset[int]) -> float:
        """Tasks of roles that may use these slots or fewer have to run there."""
        tasks = sum(seconds for slots, seconds in by_slots.items() if slots <= of)
        return (tasks + sum(update[slot] for slot in of)) / len(of)

    every = frozenset(range(layout.n_slots))
    in_a_row = [start + sum(seconds for other, seconds in of if other >= start)
                for of in reduced.values() for start, _ in of]
    path, work, rounds = max([*ends, *in_a_row], default=0.0), max(map(share, {*by_slots, every})), _rounds(graph, ends)
    return Bound(path, work, rounds, share(every) / max(path, work, rounds))


def _rounds(graph: StepGraph, ends: list[float]) -> float:
    """`ends`: of the tasks on any number of ranks."""
    after = [0.0] * len(graph.tasks)  # from a task's end to the end of the step
    for task in reversed(graph.tasks):
        for need, _ in graph.needs[task.number] if task.kind != Kind.UPDATE else ():
            after[need] = max(after[need], after[task.number] + graph.durations[task.number])
    alike: dict[tuple[str, float], list[int]] = defaultdict(list)
    for task in graph.tasks:
        if task.site:
            alike[task.site.role, graph.durations[task.number]].append(task.number)
    longest = 0.0
    for (role, duration), numbers in alike.items():
        numbers.sort(key=lambda number: -ends[number])
        follows = float("inf")
        for count, number in enumerate(numbers, 1):
            follows = min(follows, after[number])
            rounds = -(-count // len(graph.layout.slots[role]))
            longest = max(longest, ends[number] + (rounds - 1) * duration + follows)
    return longest
