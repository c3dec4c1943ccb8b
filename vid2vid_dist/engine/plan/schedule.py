"""From tasks to a plan: what every rank of a pipeline does in a step, in which order.

`list_schedule` finds a slot and a time for each task, or they are given by what `local_search` has found for such a
step. The order is then fixed; it does not depend on how long tasks take when they run.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from operator import itemgetter

from vid2vid_dist.engine.plan.collection import without_collection
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.list_schedule import ListScheduler
from vid2vid_dist.engine.plan.placement import Layout
from vid2vid_dist.engine.plan.role import GENERATOR, RoleSpecs
from vid2vid_dist.engine.plan.step_graph import StepGraph, step_graph, task_seconds
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, Bucket, Identity, Kind, LaneChunk, NeededFrames, Site, Task
from vid2vid_dist.engine.plan.tensors import Part


@dataclass(frozen=True)
class Transfer:
    """Tensors of one task for one other slot, in one message. `seconds` on an idle link.

    Its source hands it on without waiting for it to arrive; its destination gets ready for it, and the tasks that need
    it wait for it.
    """

    producer: int
    parts: tuple[Part, ...]
    source: int
    destination: int
    n_bytes: int
    seconds: float


@dataclass(frozen=True)
class Run:
    """A task on a slot; in a simulation from `start` to `end`, in seconds.

    A `reduce` only begins here and goes on beside the tasks that follow; updates wait for everything else.
    """

    task: Task
    slot: int
    start: float = 0.0
    end: float = 0.0


Op = Run | Transfer


@dataclass(frozen=True)
class Strategy:
    """Choices that no rule decides best. `split_scales` lets the scales of a frame lie on different slots. `slots` and
    `turns`: where sites lie and in which order tasks come in a steady step, as a search has found it."""

    split_scales: bool = False
    slots: Mapping[Site, int] = field(default_factory=dict)
    turns: Mapping[Identity, int] = field(default_factory=dict)

    def order(self, graph: StepGraph) -> list[int] | None:
        """The found order of the tasks that run on one slot; None for a step with others, or with other needs."""
        turns = {task.number: self.turns.get(task.identity, -1) for task in graph.tasks if task.site is not None}
        if not self.turns or -1 in turns.values():
            return None
        if any(turns[before] > turn for number, turn in turns.items()
               for before in (*(need for need, _ in graph.needs[number]), *graph.tasks[number].after)):
            return None
        return sorted(turns, key=turns.__getitem__)


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
    sequence: list[Op] = field(default_factory=list)
    _programs: dict[tuple[Bucket, ...], list[list[Op]]] = field(default_factory=dict, init=False)

    @property
    def programs(self) -> list[list[Op]]:
        """The ordered operations of every slot."""
        return self.programs_in(self.reductions)

    def programs_in(self, turn: Sequence[Bucket]) -> list[list[Op]]:
        """The same, with the reductions `turn` in that order: all pipelines of a run have the same.

        A bucket that is complete before its turn waits, one for which this plan computes nothing is reduced at its
        turn: on all slots at one place of the sequence, so that nothing can wait in a circle.
        """
        key = tuple(turn)
        if key not in self._programs:
            programs = self._programs[key] = [[] for _ in range(self.layout.n_slots)]
            for item in self._reducing_in(key):
                for slot in [item.slot] if isinstance(item, Run) else [item.source, item.destination]:
                    programs[slot].append(item)
        return self._programs[key]

    def _reducing_in(self, turn: tuple[Bucket, ...]) -> Iterator[Op]:
        tasks = {bucket: Task(-1, Kind.REDUCE, bucket.role, bucket=bucket.number) for bucket in turn}
        tasks |= {task.reduces: task for task in self.tasks if task.kind == Kind.REDUCE}
        waiting, complete = deque(turn), set(turn) - set(self.reductions)

        def due() -> Iterator[Run]:
            while waiting and waiting[0] in complete:
                task = tasks[waiting.popleft()]
                yield from (Run(task, slot) for slot in self.layout.slots[task.role])

        yield from due()
        for item in self.sequence:
            if isinstance(item, Run) and item.task.kind == Kind.REDUCE:
                complete.add(item.task.reduces)
                yield from due()
            else:
                yield item

    @cached_property
    def reductions(self) -> tuple[Bucket, ...]:
        """In the order in which the gradients are complete: every rank reduces them in one order."""
        return tuple(dict.fromkeys(item.task.reduces for item in self.sequence
                                   if isinstance(item, Run) and item.task.kind == Kind.REDUCE))

    @cached_property
    def by_lane(self) -> list[dict[int, list[Task]]]:
        """The tasks of every slot, but for collectives, by lane."""
        found: list[dict[int, list[Task]]] = [defaultdict(list) for _ in range(self.layout.n_slots)]
        for task in self.tasks:
            if task.site is not None:
                found[self.assignment[task.site]][task.lane].append(task)
        return found


def needed_frames(specs: RoleSpecs, plan: Plan, slot: int, lane: int, chunk: LaneChunk) -> NeededFrames:
    """Frames that the tasks of a slot read of a lane's clip, of earlier chunks as well.

    `chunk`: what the step generates of the clip; tasks that work ahead read the chunk after it, as long.
    """
    ahead = LaneChunk(chunk.n_seen + chunk.n_frames, chunk.n_frames)
    found = NeededFrames()
    for task in plan.by_lane[slot].get(lane, []):
        found |= specs[task.role].needed_frames(task, ahead if task.is_ahead else chunk)
    return found


@without_collection()
def make_plan(tasks: list[Task], layout: Layout, costs: Costs | None, *, n_pipelines: int = 1,
              strategy: Strategy | None = None, fixed: Mapping[Site, int] | None = None) -> Plan:
    """Place and order the tasks of a step on the slots of a pipeline.

    `costs`: for several slots. `fixed` binds sites to slots where an earlier step of the same clips has put them.
    """
    if layout.n_slots == 1:
        return in_order(tasks, layout, costs, n_pipelines)
    assert costs is not None
    graph, strategy = step_graph(tasks, layout, costs, n_pipelines), strategy or Strategy()
    found = {**strategy.slots, **(fixed or {})}
    slots = [found.get(site, -1) for site in graph.sites]
    order = strategy.order(graph) or sorted((task.number for task in tasks if task.site is not None),
                                            key=lambda number: -graph.longest[number])
    scheduler = ListScheduler(graph, slots, _preferred(graph, strategy))
    scheduler.run(order)
    return _planned(graph, scheduler.slots, scheduler.starts, n_pipelines, strategy)


def _preferred(graph: StepGraph, strategy: Strategy) -> list[int]:
    """Slots for synthesis of the generator's frames, one after the other; -1 for what goes where it is best, as other
    branches do."""
    allowed = graph.layout.slots[GENERATOR]
    longest_chunk = 1 + max((max(task.frames) for task in graph.tasks if task.kind == Kind.SYNTHESIS), default=0)
    return [allowed[(site.lane * longest_chunk + site.frame) % len(allowed)]
            if site.role == GENERATOR and not site.part and not strategy.split_scales else -1 for site in graph.sites]


def in_order(tasks: list[Task], layout: Layout, costs: Costs | None = None, n_pipelines: int = 1) -> Plan:
    """The plan of a single slot: the tasks as they are numbered, updates last."""
    durations = task_seconds(tasks, layout, costs, n_pipelines) if costs else [0.0] * len(tasks)
    sites = {site: 0 for task in tasks for site in (task.site, *(heir for _, heir in task.to_next_step)) if site}
    n = len(tasks)
    sequence = sorted(_runs(tasks, layout, [0] * n, range(n), range(1, n + 1)), key=itemgetter(0))
    return Plan(layout, tasks, costs, n_pipelines, Strategy(), sites, durations, [op for _, op in sequence])


def _planned(graph: StepGraph, slots: list[int], starts: list[float], n_pipelines: int, strategy: Strategy) -> Plan:
    """Starts by task and slots by site as a plan."""
    tasks, durations, layout, costs = graph.tasks, graph.durations, graph.layout, graph.costs
    ends = [start + duration for start, duration in zip(starts, durations, strict=True)]
    where = [slots[site] if site >= 0 else -1 for site in graph.site]
    sequence = list(_runs(tasks, layout, where, starts, ends))
    assignment = dict(zip(graph.sites, slots, strict=True))
    for (number, slot), parts in _messages(graph, assignment, where).items():
        n_bytes = sum(costs.tensors[part.kind] for part in parts)
        transfer = Transfer(number, parts, where[number], slot, n_bytes,
                            costs.machine.message(n_bytes, where[number], slot))
        sequence.append(((ends[number], 0, number, slot), transfer))
    sequence.sort(key=itemgetter(0))
    return Plan(layout, tasks, costs, n_pipelines, strategy, assignment, durations, [op for _, op in sequence])


def _runs(tasks: list[Task], layout: Layout, where: Sequence[int], starts: Sequence[float], ends: Sequence[float]
          ) -> Iterator[tuple[tuple[float, int, int, int], Op]]:
    """The tasks on their slots, with what they are sorted by. A reduction begins with the last of its gradients: a slot
    that is within a task then has begun it before that task, which nothing up to there waits for. Updates when all else
    is done."""
    begun: list[list[float]] = [[] for _ in range(layout.n_slots)]
    for task in (task for task in tasks if task.kind in COLLECTIVE):
        begin = max(ends[need.task] for need in task.needs) if task.kind == Kind.REDUCE else inf
        for slot in layout.slots[task.role]:
            begun[slot].append(begin)
            yield (begin, 1, task.number, slot), Run(task, slot)
    for task in (task for task in tasks if task.kind not in COLLECTIVE):
        start, end, slot = starts[task.number], ends[task.number], where[task.number]
        place = max([start, *(begin for begin in begun[slot] if start < begin < end)])
        yield (place, 2, task.number, slot), Run(task, slot)


def _messages(graph: StepGraph, assignment: dict[Site, int], where: list[int]
              ) -> dict[tuple[int, int], tuple[Part, ...]]:
    """What travels, by (producer, destination): for the tasks of this step, and what the next one starts from."""
    found: dict[tuple[int, int], set[Part]] = {}
    for task in graph.tasks:
        slot = where[task.number]
        for need in task.needs if slot >= 0 else ():
            if need.parts and where[need.task] != slot:
                found.setdefault((need.task, slot), set()).update(need.parts)
        for part, heir in task.to_next_step:
            if assignment[heir] != slot:
                found.setdefault((task.number, assignment[heir]), set()).add(part)
    return {key: tuple(sorted(parts)) for key, parts in found.items()}
