"""A step in numbers: lists by task and by site, for what looks at every task many times."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.placement import Layout
from vid2vid_dist.engine.plan.role import GENERATOR
from vid2vid_dist.engine.plan.tasks import INTO_WEIGHTS, CostKey, Kind, Site, Task
from vid2vid_dist.engine.plan.tensors import Part

SHORTEST = 1e-9  # seconds; keeps planned times of dependent tasks apart


@dataclass
class StepGraph:
    """Lists of a step's tasks, by their numbers, and of its sites, as they come. Times in seconds.

    `needs`: (task, time of the message if it comes from another slot of the node). `site`: -1 of collectives.
    `longest`: from the start of a task to the end of its chain, reductions and messages included. `work`: seconds of a
    site's `members`. `saved`: bytes that the generator keeps for its backward passes, by site. `update`: of all updates
    on a slot.
    """

    tasks: list[Task]
    layout: Layout
    costs: Costs
    durations: list[float]
    needs: list[list[tuple[int, float]]]
    site: list[int]
    longest: list[float]
    sites: list[Site]
    members: list[list[int]]
    work: list[float]
    saved: list[float]
    update: list[float]

    @property
    def node(self) -> list[int]:
        """By slot."""
        return [slot // self.costs.machine.ranks_per_node for slot in range(self.layout.n_slots)]

    @property
    def between_nodes(self) -> float:
        """How many times as long a message takes to another node, about: it weighs more than its latency."""
        return self.costs.machine.link_in_node / self.costs.machine.link_between_nodes


def task_seconds(tasks: Sequence[Task], layout: Layout, costs: Costs, n_pipelines: int) -> list[float]:
    """Predicted times of tasks, on one rank each."""
    per_node = costs.machine.ranks_per_node

    def seconds(key: CostKey) -> float:
        slots = layout.slots.get(key.role, ())
        nodes = {(pipeline * layout.n_slots + slot) // per_node for pipeline in range(n_pipelines) for slot in slots}
        return costs.seconds(key, len(slots) * n_pipelines, len(nodes))

    units = {key: seconds(key) for key in {task.cost_key for task in tasks}}
    return [max(SHORTEST, units[task.cost_key] * task.units) for task in tasks]


def step_graph(tasks: list[Task], layout: Layout, costs: Costs, n_pipelines: int = 1) -> StepGraph:
    """Numbers of the tasks of a step on a layout."""
    durations = task_seconds(tasks, layout, costs, n_pipelines)
    n_bytes = costs.tensors

    def message(parts: Iterable[Part]) -> float:
        return costs.machine.message(sum([n_bytes[part.kind] for part in parts]), 0, 0) if parts else 0.0

    needs = [[(need.task, message(need.parts)) for need in task.needs] for task in tasks]
    sites = list(dict.fromkeys([*(task.site for task in tasks if task.site),
                                *(heir for task in tasks for _, heir in task.to_next_step)]))
    index = {site: number for number, site in enumerate(sites)}
    trained = {task.site for task in tasks if task.kind in INTO_WEIGHTS and task.role == GENERATOR}
    site = [index[task.site] if task.site else -1 for task in tasks]
    members: list[list[int]] = [[] for _ in sites]
    work, saved, update = [0.0] * len(sites), [0.0] * len(sites), [0.0] * layout.n_slots
    for task, at, duration in zip(tasks, site, durations, strict=True):
        if task.site:
            members[at].append(task.number)
            work[at] += duration
            saved[at] += costs.work[task.cost_key].saved * task.units if task.site in trained else 0.0
        for slot in layout.slots[task.role] if task.kind == Kind.UPDATE else ():
            update[slot] += duration
    return StepGraph(tasks, layout, costs, durations, needs, site, _longest(tasks, durations, needs), sites, members,
                     work, saved, update)


def _longest(tasks: Sequence[Task], durations: list[float], needs: list[list[tuple[int, float]]]) -> list[float]:
    longest = [0.0] * len(tasks)
    for task in reversed(tasks):
        number = task.number
        own = longest[number] = longest[number] + durations[number]
        for need, way in needs[number]:
            if own + way > longest[need]:
                longest[need] = own + way
        for before in task.after:
            if own > longest[before]:
                longest[before] = own
    return longest
