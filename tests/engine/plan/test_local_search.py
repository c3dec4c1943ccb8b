"""The search betters a plan, keeps within its memory, and what it finds is followed by later steps."""

from tests.engine.plans import street_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.local_search import MORE_SAVED, anneal
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.planner import Placed, Planner
from vid2vid_dist.engine.plan.schedule import Run, Strategy, make_plan
from vid2vid_dist.engine.plan.search import best_plan
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.step_graph import step_graph
from vid2vid_dist.engine.plan.tasks import LaneChunk, StepShape, steady_shape

SPECS, COSTS = street_costs(512)
LAYOUT = colocated(SPECS, 8)


def test_a_searched_plan_is_better_and_keeps_little_more_for_backward_passes() -> None:
    tasks = step_tasks(SPECS, steady_shape(2, 6))
    plan, graph = make_plan(tasks, LAYOUT, COSTS), step_graph(tasks, LAYOUT, COSTS)
    order = [item.task.number for item in plan.sequence if isinstance(item, Run) and item.task.site]
    before = [plan.assignment[site] for site in graph.sites]
    first, second = (anneal(graph, before, order, 4000) for _ in range(2))
    assert first == second, "the same input gives the same"
    assert sorted(first.order) == sorted(order)
    assert first.length < 0.99 * simulate(plan).period

    def fullest(slots: list[int]) -> float:
        return max(sum(saved for saved, at in zip(graph.saved, slots, strict=True) if at == slot) for slot in range(8))

    assert fullest(first.slots) <= fullest(before) * MORE_SAVED


def test_steps_of_a_run_follow_what_was_found() -> None:
    """From a clip's first step on, whose tasks are others; the steady steps are the searched one."""
    found = best_plan(SPECS, steady_shape(1, 6), LAYOUT, COSTS)
    assert found.strategy.turns, "searched"
    planner = Planner(SPECS, Placed(LAYOUT, 1, 0, COSTS, found.strategy, ()))
    plans = [planner.next(StepShape((LaneChunk(6 * step, 6),), (LaneChunk(6 * step + 6, 6),), flow_ready=step > 0))
             for step in range(8)]
    assert plans[0].strategy.order(step_graph(plans[0].tasks, LAYOUT, COSTS)) is None
    assert plans[-1].assignment == found.assignment
    assert simulate(plans[-1]).period == simulate(found).period
    listed = make_plan(found.tasks, LAYOUT, COSTS, strategy=Strategy())
    assert simulate(plans[-1]).period < 0.97 * simulate(listed).period
