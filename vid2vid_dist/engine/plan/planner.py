"""Where the roles of a run lie, and the plans of its consecutive steps."""

from dataclasses import dataclass, replace
from functools import lru_cache

from vid2vid_dist.engine.plan.costs import CPU_CORE, Costs, count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import Layout, colocated
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan, Strategy, in_order, make_plan
from vid2vid_dist.engine.plan.search import Choice, PlanRequest, choose
from vid2vid_dist.engine.plan.tasks import FAR, Bucket, LaneChunk, Site, StepShape, steady_shape
from vid2vid_dist.models.temporal import frames_kept

MAX_PLANS = 64  # kept: videos of many lengths make many kinds of step


@dataclass(frozen=True)
class Placed:
    """The placement of a run. `in_flight`: lanes of a pipeline that are worked on at a time, 0 = all. `costs`: None
    where every rank runs whole lanes. `reductions`: of all buckets, in the order that every rank keeps to.
    `reason`: why it was chosen, if that was left open."""

    layout: Layout
    n_pipelines: int
    in_flight: int
    costs: Costs | None
    strategy: Strategy
    reductions: tuple[Bucket, ...]
    reason: str = ""


def data_parallel(specs: RoleSpecs, n_ranks: int, reason: str = "") -> Placed:
    """Every rank is a pipeline of its own and runs whole lanes; nothing is weighed."""
    layout = colocated(specs, 1)
    steady = in_order(step_tasks(specs, steady_shape(1, 1), whole_chunks=True), layout)
    return Placed(layout, n_ranks, 0, None, Strategy(), _every(specs, steady), reason)


def choose_placement(specs: RoleSpecs, n_ranks: int, size: tuple[int, int], n_frames: int, n_frames_bp: int,
                     on_gpus: bool = True) -> Placed:
    """What `parallel.placement` asks for. `size`: width and height of a frame.

    Raises `UserError` for what cannot be, with the nearest that can.
    """
    placement = specs.cfg.parallel.placement
    if placement == "data_parallel" or (placement in ("auto", "colocated") and n_ranks == 1):
        return data_parallel(specs, n_ranks)
    choice = expected_step(specs, n_ranks, size, n_frames, n_frames_bp, on_gpus)
    plan = choice.plan
    if plan.layout.n_slots == 1:
        return data_parallel(specs, n_ranks, choice.reason or f"{placement}: {n_ranks} pipelines of one rank each "
                             "promise to be the fastest: every rank runs all roles on its own clips")
    return Placed(plan.layout, choice.n_pipelines, choice.in_flight, plan.costs, plan.strategy,
                  _every(specs, plan), choice.reason)


def _every(specs: RoleSpecs, steady: Plan) -> tuple[Bucket, ...]:
    """Reductions as in a steady step, then those that it does not have: a sparse scale judges no frame of some."""
    return tuple(dict.fromkeys([*steady.reductions, *specs.buckets]))


def expected_step(specs: RoleSpecs, n_ranks: int, size: tuple[int, int], n_frames: int, n_frames_bp: int,
                  on_gpus: bool = True) -> Choice:
    """A step as `parallel.placement` asks for it: its plan, time and memory. Arguments and errors as above."""
    costs = count_costs(specs, size[1], size[0], None if on_gpus else CPU_CORE)
    parallel = specs.cfg.parallel
    return choose(specs, costs, PlanRequest(n_ranks, parallel.n_lanes(n_ranks), n_frames, parallel.placement,
                                             parallel.pipelines, n_frames_bp=n_frames_bp))


class Planner:
    """Plans of consecutive steps: what a clip in flight has left somewhere stays there until the clip ends.

    All ranks of a pipeline make the same plans, from the same numbers.
    """

    def __init__(self, specs: RoleSpecs, placed: Placed) -> None:
        self.specs, self.placed = specs, placed
        self.assignment: dict[Site, int] = {}  # slots of the sites of clips in flight
        self._plan = lru_cache(MAX_PLANS)(self._make_plan)

    def next(self, shape: StepShape) -> Plan:
        """The plan of the step after the last one."""
        fixed = {site: slot for site, slot in self.assignment.items() if shape.lanes[site.lane].n_seen}
        known = replace(shape, lanes=tuple(map(self._known, shape.lanes)), ahead=tuple(map(self._known, shape.ahead)))
        plan = self._plan(known, frozenset(fixed.items()))
        self.assignment = left_at(plan)
        return plan

    def _make_plan(self, shape: StepShape, fixed: frozenset[tuple[Site, int]]) -> Plan:
        placed = self.placed
        return make_plan(
            step_tasks(self.specs, shape, whole_chunks=placed.layout.n_slots == 1), placed.layout, placed.costs,
            n_pipelines=placed.n_pipelines, strategy=placed.strategy, fixed=dict(fixed))

    def _known(self, chunk: LaneChunk) -> LaneChunk:
        """Frames of a clip that were generated before, as far as they make a difference: plans repeat sooner."""
        disc = self.specs.cfg.discriminator
        if disc.sparse_D:
            return chunk
        longest = frames_kept(disc, FAR)
        return chunk._replace(n_seen=min(chunk.n_seen, max(longest, self.specs.cfg.generator.n_frames_G)))


def left_at(plan: Plan) -> dict[Site, int]:
    """Slots of the sites at which a step leaves something for the next."""
    heirs = {site for task in plan.tasks for _, site in task.to_next_step}
    return {site: slot for site, slot in plan.assignment.items() if site in heirs}
