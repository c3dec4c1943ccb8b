"""Choosing a plan: orders of a given placement, numbers of ranks, placements; and saying why."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vid2vid_dist.engine.plan.bound import lower_bound
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.memory import RankMemory, plan_memory
from vid2vid_dist.engine.plan.placement import Layout, colocated, explicit, slots_per_pipeline, split
from vid2vid_dist.engine.plan.role import GENERATOR, RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan, Run, Strategy, make_plan
from vid2vid_dist.engine.plan.simulate import Prediction, simulate
from vid2vid_dist.engine.plan.step_graph import step_graph
from vid2vid_dist.engine.plan.tasks import StepShape, steady_shape
from vid2vid_dist.errors import UserError

MOVED_TASKS = 100_000_000  # by a search on 8 slots, about: tasks of the step times moves; on fewer in proportion
ON_CPU = 0.25  # of these moves, where times are known roughly
FEWEST_MOVES = 500  # fewer find nothing
FINALISTS = 3  # placements that are searched further
LONG_PIPELINE = 16  # ranks; longer pipelines are tried only where clips are too few for shorter ones
SIMPLER = 0.02  # data parallel is taken when it costs no more than this in time


@dataclass(frozen=True)
class PlanRequest:
    """What a plan is wanted for. `n_lanes`: lanes of a step, all ranks together; `n_frames`: generated frames of a
    chunk. `n_pipelines`, `in_flight`: 0 = choose. `memory`: bytes that a rank has, 0 = any number."""

    n_ranks: int
    n_lanes: int
    n_frames: int
    placement: str = "auto"
    n_pipelines: int = 0
    in_flight: int = 0
    n_frames_bp: int = 1
    memory: float = 0.0


@dataclass(frozen=True)
class Choice:
    """A plan of one pipeline, and what it is expected to do. `lanes`: those of a pipeline."""

    plan: Plan
    prediction: Prediction
    memory: list[RankMemory]
    n_pipelines: int
    lanes: int
    in_flight: int
    reason: str = ""

    @property
    def peak(self) -> float:
        return max(rank.total for rank in self.memory)

    def fits(self, memory: float) -> bool:
        return not memory or self.peak <= memory


def best_plan(specs: RoleSpecs, shape: StepShape, layout: Layout, costs: Costs, n_pipelines: int = 1,
              effort: float = 1.0) -> Plan:
    """The fastest of two plans of a placement, bettered by a search. `effort`: 0 = none. The same input gives the same.
    """
    tasks = step_tasks(specs, shape, whole_chunks=layout.n_slots == 1)
    if layout.n_slots == 1:
        return make_plan(tasks, layout, costs, n_pipelines=n_pipelines)

    def plan(strategy: Strategy) -> Plan:
        return make_plan(tasks, layout, costs, n_pipelines=n_pipelines, strategy=strategy)

    best = min(plan(Strategy(False)), plan(Strategy(True)), key=lambda plan: simulate(plan).period)
    worth = effort * min(1.0, layout.n_slots / 8) * (ON_CPU if costs.machine.is_cpu else 1.0)
    n_moves = int(worth * MOVED_TASKS) // len(tasks)
    if n_moves < FEWEST_MOVES:
        return best
    from vid2vid_dist.engine.plan.local_search import anneal  # numba: half a second that a run on one rank goes without

    graph = step_graph(tasks, layout, costs, n_pipelines)
    searched = anneal(graph, [best.assignment[site] for site in graph.sites],
                      [item.task.number for item in best.sequence if isinstance(item, Run) and item.task.site],
                      n_moves, lower_bound(graph).step - min(graph.update))
    turns = {tasks[number].identity: turn for turn, number in enumerate(searched.order)}
    slots = dict(zip(graph.sites, searched.slots, strict=True))
    return min(best, plan(replace(best.strategy, slots=slots, turns=turns)), key=lambda plan: simulate(plan).period)


def choose(specs: RoleSpecs, costs: Costs, request: PlanRequest) -> Choice:
    """The best plan for a request. If nothing fits the memory, the one that needs least.

    Raises `UserError` for what cannot be: the message names the nearest that can.
    """
    found = [candidate for layout, n_pipelines in _layouts(specs, costs, request)
             for candidate in _evaluate(specs, costs, request, layout, n_pipelines)]
    fitting = [candidate for candidate in found if candidate.fits(request.memory)]
    if not fitting:
        return replace(min(found, key=lambda c: c.peak), reason="nothing fits; this needs least memory")
    shared = sorted((c for c in fitting if c.plan.layout.n_slots > 1), key=lambda c: c.prediction.period)[:FINALISTS]
    bettered = (_planned(specs, costs, request, c.plan.layout, c.n_pipelines, c.in_flight, 1 / len(shared))
                for c in shared)
    fitting += [candidate for candidate in bettered if candidate.fits(request.memory)]
    best = min(fitting, key=lambda c: c.prediction.period)
    if request.placement != "auto":
        return best
    simple = [c for c in fitting if c.plan.layout.n_slots == 1]
    if simple:
        simplest = min(simple, key=lambda c: c.prediction.period)
        loss = simplest.prediction.period / best.prediction.period - 1
        if loss <= SIMPLER:
            return replace(simplest, reason=f"{request.n_lanes} lanes keep {request.n_ranks} ranks busy without "
                                            "sharing clips: only gradients travel")
        return replace(best, reason=f"{request.n_lanes} lanes on {request.n_ranks} ranks: data parallel would take "
                                    f"{1 + loss:.1f}x as long")
    return replace(best, reason=f"the fastest that fits: {request.n_lanes} lanes do not fit as data parallel")


def _evaluate(specs: RoleSpecs, costs: Costs, request: PlanRequest, layout: Layout, n_pipelines: int
              ) -> Iterator[Choice]:
    """The plan of a placement with all lanes at once; where memory is short, with fewer at a time too."""
    lanes = -(-request.n_lanes // n_pipelines)
    if layout.n_slots == 1:  # lane after lane: memory is that of one
        limits = [1]
    else:
        limits = [request.in_flight] if request.in_flight else [lanes, *(n for n in (4, 2, 1) if n < lanes)]
    for limit in limits:
        choice = _planned(specs, costs, request, layout, n_pipelines, limit, effort=0)
        yield choice
        if choice.fits(request.memory):
            return


def _planned(specs: RoleSpecs, costs: Costs, request: PlanRequest, layout: Layout, n_pipelines: int, limit: int,
             effort: float) -> Choice:
    """`limit`: lanes at a time."""
    lanes = -(-request.n_lanes // n_pipelines)
    shape = steady_shape(lanes, request.n_frames, request.n_frames_bp, limit, flow_ahead=layout.n_slots > 1)
    plan = best_plan(specs, shape, layout, costs, n_pipelines, effort)
    prediction = simulate(plan)
    return Choice(plan, prediction, plan_memory(specs, plan, shape, prediction.timeline), n_pipelines, lanes, limit)


def _layouts(specs: RoleSpecs, costs: Costs, request: PlanRequest) -> Iterator[tuple[Layout, int]]:
    n_ranks = request.n_ranks
    kind, _, numbers = request.placement.partition(":")
    if kind == "data_parallel" or (kind == "auto" and request.n_pipelines in (0, n_ranks)):
        yield colocated(specs, 1), n_ranks
    smallest = 1 if kind == "colocated" else 2
    counts = [p for p in range(1, n_ranks // smallest + 1) if n_ranks % p == 0 and request.n_lanes % p == 0]
    short = [p for p in counts if n_ranks // p <= LONG_PIPELINE]
    counts = short or counts[-1:]
    if kind == "data_parallel":
        counts = []
    elif request.n_pipelines:
        counts = [request.n_pipelines]
    elif kind == "split" and numbers:
        size = sum(_split_sizes(numbers))
        counts = [n_ranks // size if size and n_ranks % size == 0 else 1]
    elif numbers or "=" in kind or not counts:
        counts = [1]
    for n_pipelines in counts:
        n_slots = slots_per_pipeline(n_ranks, n_pipelines)
        if request.n_lanes % n_pipelines:
            nearest = max(1, round(request.n_lanes / n_pipelines)) * n_pipelines
            raise UserError(f"{request.n_lanes} lanes do not divide over {n_pipelines} pipelines; the nearest "
                            f"is {nearest} lanes of parallel.batch_size clips: set parallel.clips_per_step")
        for layout in _of_pipeline(specs, costs, request.placement, n_slots):
            yield layout, n_pipelines


def _of_pipeline(specs: RoleSpecs, costs: Costs, placement: str, n_slots: int) -> Iterator[Layout]:
    kind, _, numbers = placement.partition(":")
    if kind == "split" and numbers:
        yield _given_split(specs, numbers, n_slots)
    elif kind in ("split", "auto") and n_slots > 1:
        share = costs.share(GENERATOR)
        likely = sorted(range(1, n_slots), key=lambda n: abs(n - share * n_slots))[:5]
        yield from (split(specs, n, n_slots - n) for n in likely)
    elif kind == "split":
        raise UserError("parallel.placement=split needs at least 2 ranks per pipeline; on 1 rank use colocated")
    if kind == "colocated" or (kind == "auto" and n_slots > 1):
        yield colocated(specs, n_slots)
    if "=" in placement:
        yield explicit(specs, placement, n_slots)
    elif kind not in ("auto", "split", "colocated"):
        raise UserError(f"placement {placement}: write auto, split, split:6+2, colocated, data_parallel or a table "
                        "like generator=0-3,others=4-7")


def _split_sizes(numbers: str) -> tuple[int, int]:
    """Generator and discriminator ranks of a split that is spelled out."""
    counts = re.fullmatch(r"([0-9]{1,6})\+([0-9]{1,6})", numbers)
    if counts is None:
        raise UserError(f"placement split:{numbers}: write the generator and discriminator ranks like split:6+2")
    return int(counts[1]), int(counts[2])


def _given_split(specs: RoleSpecs, numbers: str, n_slots: int) -> Layout:
    n_generator, n_discriminator = _split_sizes(numbers)
    if not n_generator or not n_discriminator or n_generator + n_discriminator != n_slots:
        near = min(max(1, n_generator), n_slots - 1)
        raise UserError(f"placement split:{numbers} needs {n_generator + n_discriminator} ranks per pipeline, at least "
                        f"one of each kind; there are {n_slots}; "
                        + (f"the nearest is split:{near}+{n_slots - near}" if n_slots > 1 else "use colocated"))
    return split(specs, n_generator, n_discriminator)
