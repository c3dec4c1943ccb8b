"""Predicted step times, by hand for small plans."""

import itertools
from dataclasses import replace

import pytest

from tests.engine.plans import made_up_costs, specs_of
from vid2vid_dist.engine.plan.costs import Machine
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.list_schedule import ListScheduler
from vid2vid_dist.engine.plan.placement import colocated, split
from vid2vid_dist.engine.plan.schedule import make_plan
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.step_graph import step_graph
from vid2vid_dist.engine.plan.tasks import Kind, steady_shape


def test_one_rank_is_always_busy() -> None:
    specs = specs_of()
    plan = make_plan(step_tasks(specs, steady_shape(2, 3)), colocated(specs, 1), made_up_costs(specs))
    prediction = simulate(plan)
    compute = sum(seconds for task, seconds in zip(plan.tasks, plan.durations, strict=True) if task.kind != Kind.REDUCE)
    assert prediction.period == pytest.approx(compute, rel=1e-6)
    assert prediction.busy == pytest.approx([1.0])


def test_work_per_step_does_not_depend_on_the_placement() -> None:
    specs = specs_of()
    tasks, costs = step_tasks(specs, steady_shape(2, 4)), made_up_costs(specs)
    worked = []
    for layout in (colocated(specs, 2), split(specs, 1, 1), colocated(specs, 1)):
        prediction = simulate(make_plan(tasks, layout, costs))
        of_updates = sum(run.end - run.start for run in prediction.timeline if run.task.kind == Kind.UPDATE)
        worked.append(sum(prediction.busy) * prediction.period - of_updates)
    assert worked == pytest.approx([worked[0]] * 3)


def test_period_is_no_longer_than_the_planned_step() -> None:
    specs = specs_of(generator__fg=True)
    tasks, layout, costs = step_tasks(specs, steady_shape(2, 4)), split(specs, 3, 2), made_up_costs(specs)
    graph, plan = step_graph(tasks, layout, costs), make_plan(tasks, layout, costs)
    scheduler = ListScheduler(graph, [-1] * len(graph.sites), [plan.assignment[site] for site in graph.sites])
    scheduler.run(sorted((task.number for task in tasks if task.site), key=lambda n: (-graph.longest[n], n)))
    reduced = max(max(scheduler.ends[need.task] for need in task.needs) + graph.durations[task.number]
                  for task in tasks if task.kind == Kind.REDUCE)
    planned = max(*scheduler.ends, reduced) + max(graph.update)
    assert simulate(plan).period <= planned + 1e-9


def test_weights_change_when_all_slots_have_done_their_tasks() -> None:
    specs = specs_of()
    plan = make_plan(step_tasks(specs, steady_shape(2, 4)), split(specs, 2, 2), made_up_costs(specs))
    timeline = simulate(plan).timeline
    updates = [run for run in timeline if run.task.kind == Kind.UPDATE]
    assert {run.slot for run in updates} == set(range(4))
    assert min(run.start for run in updates) == max(run.end for run in timeline if run.task.kind != Kind.UPDATE)


def test_reductions_of_a_slot_follow_each_other_in_the_planned_order() -> None:
    specs = specs_of()
    plan = make_plan(step_tasks(specs, steady_shape(2, 4)), colocated(specs, 2), made_up_costs(specs))
    timeline = simulate(plan).timeline
    reductions = [run for run in timeline if run.task.kind == Kind.REDUCE and run.slot == 1]
    assert tuple(run.task.reduces for run in reductions) == plan.reductions
    assert len(reductions) > 2
    for before, after in itertools.pairwise(reductions):
        assert after.end >= before.end + plan.durations[after.task.number]


@pytest.mark.parametrize("link", [4e8, 450e9])
def test_one_step_after_the_warm_up_is_like_another(link: float) -> None:
    """Also where messages are still on their way when the next step begins."""
    specs = specs_of()
    costs = replace(made_up_costs(specs), machine=Machine(link_in_node=link))
    plan = make_plan(step_tasks(specs, steady_shape(2, 4)), split(specs, 3, 2), costs)
    assert simulate(plan).period == pytest.approx(simulate(plan, n_steps=12).period, rel=1e-9)


def test_jitter_is_reproducible_and_costs_little() -> None:
    specs = specs_of()
    plan = make_plan(step_tasks(specs, steady_shape(4, 4)), colocated(specs, 4), made_up_costs(specs))
    spread = [simulate(plan, n_steps=20, jitter=0.05, seed=seed).period for seed in (1, 1, 2)]
    assert spread[0] == spread[1] != spread[2]
    assert spread[0] == pytest.approx(simulate(plan).period, rel=0.05)
