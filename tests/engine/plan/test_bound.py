"""No plan beats the bound, and the best of all plans of a tiny step comes near."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.engine.plan.test_schedule import plans
from tests.engine.plans import made_up_costs, specs_of, street_costs
from vid2vid_dist.engine.plan.bound import lower_bound
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated, split
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan, Strategy, make_plan
from vid2vid_dist.engine.plan.search import PlanRequest, choose
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.step_graph import step_graph
from vid2vid_dist.engine.plan.tasks import StepShape, steady_shape


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck),
          phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(plans())
def test_no_plan_beats_the_bound(given_plan: tuple[RoleSpecs, StepShape, Plan]) -> None:
    _, _, plan = given_plan
    assert plan.costs is not None
    bound, found = lower_bound(step_graph(plan.tasks, plan.layout, plan.costs)), simulate(plan)
    assert found.period >= bound.step * (1 - 1e-9)
    assert found.mean_busy <= bound.busy * (1 + 1e-9)


def test_nor_does_the_best_of_all_plans_of_a_tiny_step() -> None:
    """All slots for the sites, all orders of the tasks."""
    specs = specs_of(loss__no_vgg=True, discriminator__n_scales_temporal=0, generator__netG="global",
                     generator__no_flow=True, generator__no_first_img=True, generator__norm="instance")
    layout, costs = colocated(specs, 2), replace(made_up_costs(specs), buckets=dict.fromkeys(specs.buckets, 1000))
    tasks = step_tasks(specs, steady_shape(1, 1, flow_ahead=False))
    graph = step_graph(tasks, layout, costs)
    placed = [task.number for task in tasks if task.site]
    assert len(placed) == 8
    periods = []
    for order in itertools.permutations(placed):
        turns = {tasks[number].identity: turn for turn, number in enumerate(order)}
        if Strategy(turns=turns).order(graph) is None:
            continue
        for slots in itertools.product(range(2), repeat=len(graph.sites)):
            strategy = Strategy(slots=dict(zip(graph.sites, slots, strict=True)), turns=turns)
            periods.append(simulate(make_plan(tasks, layout, costs, strategy=strategy)).period)
    assert len(set(periods)) > 2
    bound = lower_bound(graph).step
    assert bound <= min(periods) * (1 + 1e-12) < 1.1 * bound


def test_roles_on_few_ranks_have_a_bound_of_their_own() -> None:
    specs, costs = street_costs(512)
    tasks = step_tasks(specs, steady_shape(4, 6))
    even, narrow = (lower_bound(step_graph(tasks, layout, costs))
                    for layout in (colocated(specs, 8), split(specs, 2, 6)))
    assert narrow.work > 2 * even.work
    assert narrow.path == pytest.approx(even.path, rel=0.05)


@pytest.mark.parametrize(("size", "n_lanes", "n_frames", "reached"), [
    (512, 1, 6, 0.95), (512, 2, 6, 0.90), (1024, 1, 4, 0.94),
    *(pytest.param(*row, marks=pytest.mark.long) for row in (
        (1024, 2, 4, 0.97), (2048, 1, 4, 0.93), (2048, 2, 4, 0.97)))])
def test_street_steps_come_near_to_their_bound(size: int, n_lanes: int, n_frames: int, reached: float) -> None:
    specs, costs = street_costs(size)
    choice = choose(specs, costs, PlanRequest(8, n_lanes, n_frames, "colocated"))
    bound = lower_bound(step_graph(choice.plan.tasks, choice.plan.layout, costs, choice.n_pipelines))
    assert bound.step >= reached * choice.prediction.period
