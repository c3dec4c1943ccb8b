"""Plans of consecutive steps, and what they are made from."""

import itertools
import time

from tests.engine.plans import made_up_costs, specs_of
from tools.bench_plan import street
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.planner import Placed, Planner, choose_placement, data_parallel, left_at
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan, Run, Strategy
from vid2vid_dist.engine.plan.tasks import Kind, LaneChunk, StepShape
from vid2vid_dist.engine.roles.build import role_specs

SPECS = specs_of()


def placed(specs: RoleSpecs, n_slots: int, strategy: Strategy | None = None) -> Placed:
    return Placed(colocated(specs, n_slots), 1, 0, made_up_costs(specs), strategy or Strategy(split_scales=True), ())


def steps(planner: Planner, n_seen: range, n_frames: int = 4) -> list[Plan]:
    return [planner.next(StepShape((LaneChunk(n, n_frames), LaneChunk(n, n_frames)))) for n in n_seen]


def test_what_a_clip_in_flight_has_left_stays_where_it_is() -> None:
    """Each step finds at every site what the step before has left there."""
    plans = steps(Planner(SPECS, placed(SPECS, 5)), range(0, 24, 4))
    for before, after in itertools.pairwise(plans):
        left = left_at(before)
        assert left
        assert {site: after.assignment[site] for site in left} == left


def test_a_new_clip_is_bound_to_nothing() -> None:
    planner = Planner(SPECS, placed(SPECS, 5))
    first = steps(planner, range(0, 12, 4))[0]
    again = planner.next(StepShape((LaneChunk(0, 4), LaneChunk(0, 4))))
    assert again is first, "the same step from the same start has the same plan"


def test_plans_repeat_once_everything_is_in_view() -> None:
    """However long a clip becomes; sparse groups count from its start."""
    planner = Planner(SPECS, placed(SPECS, 3))
    plans = steps(planner, range(0, 60, 4))
    assert len({id(plan) for plan in plans}) < 8
    assert plans[-1] is plans[-2]
    specs = specs_of(discriminator__sparse_D=True)
    sparse = steps(Planner(specs, placed(specs, 3)), range(0, 60, 4))
    assert sparse[-1] is not sparse[-2]


def test_one_rank_counts_nothing() -> None:
    """Of the largest recipe: its networks are never built, not even without data, and times are not known."""
    specs = role_specs(street(2048))
    started = time.process_time()
    found = choose_placement(specs, 1, (2048, 1024), 4, 1)
    plan = Planner(specs, found).next(StepShape((LaneChunk(4, 4),), ahead=(LaneChunk(8, 4),)))
    assert time.process_time() - started < 0.5  # a few milliseconds; counting takes seconds
    assert plan.costs is None
    assert plan.layout.n_slots == 1
    assert found == data_parallel(specs, 1)


def test_ranks_with_lanes_of_their_own_take_whole_chunks() -> None:
    """Critics that may take all frames of a chunk at once do so, where nobody shares them."""
    found = {}
    for name, layout in (("alone", data_parallel(SPECS, 4)), ("shared", placed(SPECS, 2))):
        plan = Planner(SPECS, layout).next(StepShape((LaneChunk(0, 4),)))
        found[name] = [run.task.frames for run in plan.sequence if isinstance(run, Run)
                       and (run.task.role, run.task.kind) == ("perceptual", Kind.FAKE)]
    assert found["alone"] == [(0, 1, 2, 3)]
    assert sorted(found["shared"]) == [(0,), (1,), (2,), (3,)]
