"""Memory of a rank, added up by hand."""

from dataclasses import replace

import pytest

from tests.engine.plans import made_up_costs, specs_of
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.memory import CAUSES, CONTEXT_BYTES, plan_memory
from vid2vid_dist.engine.plan.placement import Layout, colocated, split
from vid2vid_dist.engine.plan.schedule import make_plan
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.tasks import CostKey, Kind, LaneChunk, StepShape, steady_shape
from vid2vid_dist.engine.plan.tensors import TensorKind, What

SPECS = specs_of(generator__fg=True, loss__no_vgg=True, discriminator__n_scales_temporal=0)
COSTS = made_up_costs(SPECS)


def test_one_frame_on_one_rank() -> None:
    plan = make_plan(step_tasks(SPECS, shape := steady_shape(1, 1)), colocated(SPECS, 1), COSTS)
    (memory,) = plan_memory(SPECS, plan, shape, simulate(plan).timeline)
    frame = sum(COSTS.work[CostKey("generator", kind)].saved
                for kind in (Kind.LABEL, Kind.FOREGROUND, Kind.PAST, Kind.SYNTHESIS, Kind.FLOW, Kind.BLEND))
    assert memory.live_frames == 1
    assert memory.by_cause["live frames"] == pytest.approx(frame)
    assert tuple(memory.by_cause) == CAUSES
    n_parameters = sum(COSTS.parameters[role] for role in ("generator", "image"))
    assert memory.by_cause["weights, gradients"] == 4 * n_parameters + 2 * COSTS.frozen["flow"]
    assert memory.by_cause["optimiser shard"] == 12 * n_parameters
    assert memory.by_cause["context"] == CONTEXT_BYTES
    assert memory.total == pytest.approx(sum(memory.by_cause.values()))


def test_shards_are_spread_over_the_role_in_all_pipelines() -> None:
    plan = make_plan(step_tasks(SPECS, shape := steady_shape(1, 2)), split(SPECS, 2, 1), COSTS, n_pipelines=4)
    memory = plan_memory(SPECS, plan, shape, simulate(plan).timeline)
    assert memory[0].by_cause["optimiser shard"] == 12 * COSTS.parameters["generator"] / 8
    assert memory[2].by_cause["optimiser shard"] == 12 * COSTS.parameters["image"] / 4
    assert memory[2].live_frames == 0
    assert memory[0].by_cause["critics"] == 0


def test_the_average_lies_on_the_generators_first_rank() -> None:
    specs = specs_of(generator__fg=True, loss__no_vgg=True, discriminator__n_scales_temporal=0, optim__ema_decay=0.99)
    plan = make_plan(step_tasks(specs, shape := steady_shape(1, 2)), split(specs, 2, 1), COSTS)
    with_average, without = (plan_memory(one, plan, shape, simulate(plan).timeline) for one in (specs, SPECS))
    more = [a.total - b.total for a, b in zip(with_average, without, strict=True)]
    assert more == pytest.approx([4 * COSTS.parameters["generator"], 0, 0])


def test_optimiser_state_on_the_host_is_not_the_ranks() -> None:
    costs = replace(COSTS, offload=True)
    plan = make_plan(step_tasks(SPECS, shape := steady_shape(1, 1)), colocated(SPECS, 1), costs)
    (memory,) = plan_memory(SPECS, plan, shape, simulate(plan).timeline)
    assert memory.by_cause["optimiser shard"] == 0
    update = CostKey("generator", Kind.UPDATE)
    assert costs.seconds(update) > COSTS.seconds(update)


def test_frames_of_clips_lie_where_they_are_read() -> None:
    costs = replace(COSTS, frame_bytes={"labels": 10**6, "real": 10**9})
    shape = StepShape((LaneChunk(0, 2),))
    plan = make_plan(step_tasks(SPECS, shape), split(SPECS, 1, 1), costs)
    generator, discriminator = plan_memory(SPECS, plan, shape, simulate(plan).timeline)
    # Windows of three labels for two frames; real frames for the losses of the flow, the given ones among them.
    assert generator.by_cause["clips"] == 4e6 + 4e9
    assert discriminator.by_cause["clips"] >= 2e6 + 2e9


def test_what_a_task_needs_while_it_runs_is_workspace() -> None:
    backward = CostKey("generator", Kind.PAST_BACKWARD)
    work = COSTS.work | {backward: replace(COSTS.work[backward], transient=5e9)}
    plan = make_plan(step_tasks(SPECS, shape := steady_shape(1, 1)), colocated(SPECS, 1), replace(COSTS, work=work))
    (memory,) = plan_memory(SPECS, plan, shape, simulate(plan).timeline)
    assert memory.by_cause["workspace"] == 5e9 + 2 * COSTS.tensors[TensorKind(What.TRUNK).gradient], (
        "of both branches that begin there")


def live_frames(layout: Layout, in_flight: int) -> int:
    """The most that the first rank holds of 4 lanes with 3 frames each."""
    plan = make_plan(step_tasks(SPECS, shape := steady_shape(4, 3, in_flight=in_flight)), layout, COSTS)
    return plan_memory(SPECS, plan, shape, simulate(plan).timeline)[0].live_frames


def test_fewer_lanes_in_flight_hold_fewer_frames() -> None:
    everything, two, one = (live_frames(split(SPECS, 1, 1), in_flight) for in_flight in (0, 2, 1))
    assert one <= 3 < everything
    assert one <= two <= 6


def test_one_rank_holds_the_frames_of_one_lane() -> None:
    assert live_frames(colocated(SPECS, 1), 0) == 3
