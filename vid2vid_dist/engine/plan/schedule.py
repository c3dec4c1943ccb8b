"""From tasks to a plan: what every rank of a pipeline does in a step, in which order.

List scheduling with insertion: tasks in the order of the longest way from them to the end of the step, each
at the earliest gap of its slot. So the chain of frames comes first, and what is off the chain fills its gaps.
The order is then fixed; it does not depend on how long tasks take when they run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.placement import Layout
from vid2vid_dist.engine.plan.role import GENERATOR, RoleSpecs
from vid2vid_dist.engine.plan.tasks import Kind, LaneChunk, Need, NeededFrames, Site, Task
from vid2vid_dist.engine.plan.tensors import Part

SHORTEST = 1e-9  # seconds; keeps planned times of dependent tasks apart


@dataclass(frozen=True)
class Transfer:
    """Tensors of one task for one other slot, in one message. `seconds` on an idle link."""

    producer: int
    parts: tuple[Part, ...]
    source: int
    destination: int
    n_bytes: int
    seconds: float


@dataclass(frozen=True)
class Run:
    """A task on a slot, and the time in seconds that it is planned for.

    A `reduce` only begins here and goes on beside the tasks that follow; updates wait for everything else.
    """

    task: Task
    slot: int
    start: float
    end: float


@dataclass(frozen=True)
class Send:
    """Hand a message on, without waiting for it to arrive."""

    transfer: Transfer


@dataclass(frozen=True)
class Receive:
    """Be ready for a message; the tasks that need it wait for it."""

    transfer: Transfer


Op = Run | Send | Receive


@dataclass(frozen=True)
class Strategy:
    """Choices that no rule decides best. `split_scales` lets the scales of a frame lie on different slots;
    `head_starts` (seconds by lane, falling) prefers a lane to the ones after it."""

    split_scales: bool = False
    head_starts: tuple[float, ...] = ()


@dataclass(repr=False)
class Plan:
    """Programs by slot. All are slices of one sequence, so no set of ranks can wait in a circle, and between
    two slots messages are sent in the order in which they are received.

    `assignment`: the slot of every site, also of those that only wait for the next step. `costs`: None where one slot
    does everything, so that nothing was weighed.
    """

    layout: Layout
    tasks: list[Task]
    costs: Costs | None
    n_pipelines: int
    strategy: Strategy
    assignment: dict[Site, int]
    durations: list[float]  # planned seconds by task number
    sequence: list[Run | Transfer] = field(default_factory=list)
    _programs: dict[tuple[str, ...], list[list[Op]]] = field(default_factory=dict, init=False)
    _tasks: list[list[Task]] = field(default_factory=list, init=False)

    @property
    def programs(self) -> list[list[Op]]:
        """The ordered operations of every slot."""
        return self.programs_in(self.reductions)

    def programs_in(self, turn: Sequence[str]) -> list[list[Op]]:
        """The same, with the reductions of the roles `turn` in that order: all pipelines of a run have the same.

        A role whose gradients are there before its turn waits, one for which this plan computes nothing is reduced at
        its turn: on all slots at one place of the sequence, so that nothing can wait in a circle.
        """
        key = tuple(turn)
        if key not in self._programs:
            programs = self._programs[key] = [[] for _ in range(self.layout.n_slots)]
            for item in self._reducing_in(key):
                if isinstance(item, Run):
                    programs[item.slot].append(item)
                else:
                    programs[item.source].append(Send(item))
                    programs[item.destination].append(Receive(item))
        return self._programs[key]

    def _reducing_in(self, turn: tuple[str, ...]) -> Iterator[Run | Transfer]:
        planned: dict[str, list[Run]] = {role: [] for role in turn}
        for item in self.sequence:
            if isinstance(item, Run) and item.task.kind == Kind.REDUCE:
                planned[item.task.role].append(item)
        left, there = list(turn), dict.fromkeys(turn, 0)

        def due() -> Iterator[Run]:
            while left and there[left[0]] == len(planned[left[0]]):
                task = Task(-1, Kind.REDUCE, left.pop(0))
                yield from planned[task.role] or (Run(task, slot, 0, 0) for slot in self.layout.slots[task.role])

        yield from due()
        for item in self.sequence:
            if isinstance(item, Run) and item.task.kind == Kind.REDUCE:
                there[item.task.role] += 1
                yield from due()
            else:
                yield item

    def tasks_on(self, slot: int) -> list[Task]:
        """The tasks of a slot, but for collectives."""
        if not self._tasks:
            self._tasks = [[] for _ in range(self.layout.n_slots)]
            for task in self.tasks:
                if task.site is not None:
                    self._tasks[self.assignment[task.site]].append(task)
        return self._tasks[slot]

    @property
    def reductions(self) -> tuple[str, ...]:
        """Roles in the order in which their gradients are complete: every rank reduces them in one order."""
        return tuple(dict.fromkeys(item.task.role for item in self.sequence
                                   if isinstance(item, Run) and item.task.kind == Kind.REDUCE))


def needed_frames(specs: RoleSpecs, plan: Plan, slot: int, lane: int, chunk: LaneChunk) -> NeededFrames:
    """Frames that the tasks of a slot read of a lane's clip, of earlier chunks as well.

    `chunk`: what the step generates of the clip; tasks that work ahead read the chunk after it, as long.
    """
    ahead = LaneChunk(chunk.n_seen + chunk.n_frames, chunk.n_frames)
    found = NeededFrames()
    for task in plan.tasks_on(slot):
        if task.lane == lane:
            found |= specs[task.role].needed_frames(task, ahead if task.is_ahead else chunk)
    return found


def make_plan(tasks: list[Task], layout: Layout, costs: Costs, *, n_pipelines: int = 1,
              strategy: Strategy | None = None, fixed: Mapping[Site, int] | None = None) -> Plan:
    """Place and order the tasks of a step on the slots of a pipeline.

    `fixed` binds sites to slots where an earlier step of the same clips has put them.
    """
    if layout.n_slots == 1:
        return in_order(tasks, layout, costs, n_pipelines)
    scheduler = _Scheduler(tasks, layout, costs, n_pipelines, strategy or Strategy(), dict(fixed or {}))
    return scheduler.run()


def in_order(tasks: list[Task], layout: Layout, costs: Costs | None = None, n_pipelines: int = 1) -> Plan:
    """The plan of a single slot: the tasks as they are numbered, updates last. Times are left to `simulate`."""
    durations = [task_seconds(task, layout, costs, n_pipelines) if costs else 0.0 for task in tasks]
    sites = {site: 0 for task in tasks for site in (task.site, *(heir for _, heir in task.to_next_step)) if site}

    def place(task: Task) -> tuple[bool, int, bool]:
        """A reduction begins when the last of its gradients is there; updates wait for everything."""
        after = max((need.task for need in task.needs), default=0) if task.kind == Kind.REDUCE else task.number
        return task.kind == Kind.UPDATE, after, task.kind == Kind.REDUCE

    runs: list[Run | Transfer] = [Run(task, 0, 0.0, 0.0) for task in sorted(tasks, key=place)]
    return Plan(layout, tasks, costs, n_pipelines, Strategy(), sites, durations, runs)


def task_seconds(task: Task, layout: Layout, costs: Costs, n_pipelines: int) -> float:
    """Predicted time of a task on one rank."""
    n_ranks = len(layout.slots.get(task.role, ())) * n_pipelines
    return max(SHORTEST, costs.seconds(task.cost_key, n_ranks) * task.units)


class _Slot:
    """The free time of one slot: gaps, the last one open."""

    def __init__(self) -> None:
        self.gaps: list[tuple[float, float]] = [(0.0, float("inf"))]

    def fit(self, earliest: float, duration: float) -> tuple[int, float]:
        """The first gap that is long enough, and the start in it."""
        for index, (begin, end) in enumerate(self.gaps):
            start = max(begin, earliest)
            if start + duration <= end:
                return index, start
        raise AssertionError("the last gap is open")

    def take(self, earliest: float, duration: float) -> float:
        index, start = self.fit(earliest, duration)
        begin, end = self.gaps[index]
        left, right = (begin, start), (start + duration, end)
        self.gaps[index:index + 1] = [gap for gap in (left, right) if gap[1] - gap[0] > SHORTEST]
        return start


class _Scheduler:
    def __init__(self, tasks: list[Task], layout: Layout, costs: Costs, n_pipelines: int, strategy: Strategy,
                 assignment: dict[Site, int]) -> None:
        self.tasks, self.layout, self.costs, self.strategy = tasks, layout, costs, strategy
        self.n_pipelines, self.assignment = n_pipelines, assignment
        self.durations = [task_seconds(task, layout, costs, n_pipelines) for task in tasks]
        self.slots = [_Slot() for _ in range(layout.n_slots)]
        self.load = [0.0] * layout.n_slots  # seconds of all tasks of the sites on a slot
        self.site_work: dict[Site, float] = {}
        self.site_tasks: dict[Site, list[Task]] = {}
        for task, duration in zip(tasks, self.durations, strict=True):
            if task.site is not None:
                self.site_work[task.site] = self.site_work.get(task.site, 0.0) + duration
                self.site_tasks.setdefault(task.site, []).append(task)
        for site, slot in assignment.items():
            self.load[slot] += self.site_work.get(site, 0.0)
        self.longest_chunk = 1 + max((max(task.frames) for task in tasks if task.kind == Kind.SYNTHESIS), default=0)
        self.longest = self.longest_chains()
        self.runs: dict[int, list[Run]] = {}

    def run(self) -> Plan:
        for task in sorted(self.tasks, key=lambda t: (t.kind == Kind.UPDATE, -self.priority(t), t.number)):
            self.place(task)
        for task in self.tasks:
            for _, site in task.to_next_step:
                self.slot_of(site)
        return Plan(self.layout, self.tasks, self.costs, self.n_pipelines, self.strategy, self.assignment,
                    self.durations, self.sequence())

    def priority(self, task: Task) -> float:
        head_start = self.strategy.head_starts
        ahead = head_start[task.lane] if 0 <= task.lane < len(head_start) and not task.is_ahead else 0.0
        return self.longest[task.number] + ahead

    def longest_chains(self) -> list[float]:
        """Seconds of the longest chain from the start of each task to the end of the step."""
        longest = [0.0] * len(self.tasks)
        for task in reversed(self.tasks):
            own = longest[task.number] + self.durations[task.number]
            longest[task.number] = own
            for need in task.needs:
                way = own + (self.seconds(need.parts, 0, 1) if need.parts else 0.0)
                longest[need.task] = max(longest[need.task], way)
            for number in task.after:
                longest[number] = max(longest[number], own)
        return longest

    def place(self, task: Task) -> None:
        number, duration = task.number, self.durations[task.number]
        if task.site is not None:
            earliest = max((self.runs[i][0].end for i in task.after), default=0.0)
            slot = self.slot_of(task.site, earliest)
            starts = {slot: self.slots[slot].take(self.ready(task.needs, slot, earliest), duration)}
        elif task.kind == Kind.REDUCE:
            start = max(run.end for need in task.needs for run in self.runs[need.task])
            starts = dict.fromkeys(self.layout.slots[task.role], start)
        else:
            ready = max(run.end for runs in self.runs.values() for run in runs if run.task.kind != Kind.UPDATE)
            starts = {slot: self.slots[slot].take(ready, duration) for slot in self.layout.slots[task.role]}
        self.runs[number] = [Run(task, slot, start, start + duration) for slot, start in starts.items()]

    def ready(self, needs: list[Need], slot: int, earliest: float) -> float:
        """When everything that is needed can be on the slot."""
        for need in needs:
            run = self.runs[need.task][0]
            way = 0.0 if run.slot == slot else self.seconds(need.parts, run.slot, slot)
            earliest = max(earliest, run.end + way)
        return earliest

    def slot_of(self, site: Site, earliest: float = 0.0) -> int:
        """The slot of a site; a new site goes where it lengthens the step least."""
        if site in self.assignment:
            return self.assignment[site]
        allowed = self.layout.slots[site.role]
        if site.role == GENERATOR and not site.part and not self.strategy.split_scales:
            allowed = (allowed[(site.lane * self.longest_chunk + site.frame) % len(allowed)],)
        slot = min(allowed, key=lambda slot: self.length_with(site, slot, earliest))
        self.assignment[site] = slot
        self.load[slot] += self.site_work.get(site, 0.0)
        return slot

    def length_with(self, site: Site, slot: int, earliest: float) -> tuple[float, float]:
        """How long the step becomes with a site on a slot: by the chains through it, and by the slot's load."""
        load = self.load[slot] + self.site_work.get(site, 0.0)
        length = max(load, max(self.longest))
        for task in self.site_tasks.get(site, ()):
            duration = self.durations[task.number]
            if all(need.task in self.runs for need in task.needs if need.parts):
                known = [need for need in task.needs if need.task in self.runs]
                ready = self.ready(known, slot, earliest)
                earliest = self.slots[slot].fit(ready, duration)[1] + duration
                length = max(length, earliest + self.longest[task.number] - duration)
        return round(length, 7), round(load, 7)

    def seconds(self, parts: Iterable[Part], source: int, destination: int) -> float:
        machine = self.costs.machine
        same_node = source // machine.ranks_per_node == destination // machine.ranks_per_node
        return self.n_bytes(parts) / (machine.link_in_node if same_node else machine.link_between_nodes)

    def n_bytes(self, parts: Iterable[Part]) -> int:
        return sum(self.costs.tensors[part.kind] for part in parts)

    def sequence(self) -> list[Run | Transfer]:
        """Everything in the order of planned times; a message is exchanged when its task has ended."""
        keyed: list[tuple[tuple[float, int, int, int], Run | Transfer]] = []
        for number, runs in self.runs.items():
            keyed += [((run.start, 1, number, run.slot), run) for run in runs]
        for (number, destination), parts in self.messages().items():
            run = self.runs[number][0]
            transfer = Transfer(number, parts, run.slot, destination, self.n_bytes(parts),
                                self.seconds(parts, run.slot, destination))
            keyed.append(((run.end, 0, number, destination), transfer))
        return [item for _, item in sorted(keyed, key=lambda pair: pair[0])]

    def messages(self) -> dict[tuple[int, int], tuple[Part, ...]]:
        """What travels, by (producer, destination): for the tasks of this step, and what the next one starts from."""
        found: dict[tuple[int, int], set[Part]] = {}
        for task in self.tasks:
            wanted = [(need.task, need.parts, self.assignment[task.site]) for need in task.needs if task.site]
            wanted += [(task.number, (part,), self.assignment[site]) for part, site in task.to_next_step]
            for producer, parts, slot in wanted:
                if parts and self.runs[producer][0].slot != slot:
                    found.setdefault((producer, slot), set()).update(parts)
        return {key: tuple(sorted(parts)) for key, parts in found.items()}
