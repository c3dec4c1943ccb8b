"""Plans of any kind: complete, in order, free of deadlock under any interleaving, bounded in memory."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.engine.plans import config, made_up_costs
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.memory import plan_memory
from vid2vid_dist.engine.plan.placement import Layout, colocated, data_parallel, placed_roles, split
from vid2vid_dist.engine.plan.schedule import Op, Plan, Receive, Run, Send, Strategy, make_plan
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, Kind, LaneChunk, StepShape, steady_shape

CHUNKS = st.builds(LaneChunk, st.integers(0, 40), st.integers(0, 12))


def live_frame_bound(plan: Plan, slot: int, in_flight: int) -> int:
    """Frames that a slot can hold at most when `in_flight` lanes (0 = all) are worked on at a time."""
    by_lane: dict[int, set[int]] = {}
    for site, where in plan.placement.items():
        if where == slot and site.role == "generator" and not site.part:
            by_lane.setdefault(site.lane, set()).add(site.index)
    largest = sorted((len(frames) for frames in by_lane.values()), reverse=True)
    return sum(largest[:in_flight] if in_flight else largest)


@st.composite
def layouts(draw: st.DrawFn, cfg: Config) -> Layout:
    n_slots = draw(st.integers(1, 16))
    kind = draw(st.sampled_from(["colocated", "data_parallel", "split", "table"]))
    if kind == "split" and n_slots > 1:
        n_generator = draw(st.integers(1, n_slots - 1))
        return split(cfg, n_generator, n_slots - n_generator)
    if kind == "table":
        some = st.sets(st.integers(0, n_slots - 1), min_size=1).map(lambda slots: tuple(sorted(slots)))
        return Layout("table", {role: draw(some) for role in placed_roles(cfg)}, n_slots)
    return data_parallel(cfg, n_slots) if kind == "data_parallel" else colocated(cfg, n_slots)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Config, StepShape, Plan]:
    """A plan, and what it was made from."""
    cfg = config(generator__n_scales_spatial=draw(st.integers(1, 3)), generator__fg=draw(st.booleans()),
                 generator__n_frames_G=draw(st.integers(2, 4)), loss__no_vgg=draw(st.booleans()),
                 discriminator__n_scales_temporal=draw(st.integers(0, 3)), discriminator__sparse_D=draw(st.booleans()),
                 discriminator__frames_per_pass=draw(st.integers(0, 3)), generator__no_flow=draw(st.booleans()))
    lanes = draw(st.lists(CHUNKS, min_size=1, max_size=8).filter(lambda chunks: any(c.n_frames for c in chunks)))
    shape = StepShape(tuple(lanes), tuple(draw(st.lists(CHUNKS, max_size=len(lanes)))), draw(st.booleans()),
                      draw(st.integers(1, 12)), draw(st.booleans()), draw(st.integers(0, 3)))
    strategy = Strategy(draw(st.booleans()), tuple(draw(st.floats(0, 0.1)) for _ in range(2)))
    strategy = Strategy(strategy.split_scales, tuple(sorted(strategy.head_starts, reverse=True)))
    plan = make_plan(step_tasks(cfg, shape), draw(layouts(cfg)), made_up_costs(cfg, draw(st.integers(0, 9))),
                     strategy=strategy)
    return cfg, shape, plan


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck),
          phases=[Phase.explicit, Phase.reuse, Phase.generate])  # making a plan smaller takes minutes
@given(plans(), st.randoms(use_true_random=False))
def test_any_plan(given_plan: tuple[Config, StepShape, Plan], rng: random.Random) -> None:
    cfg, shape, plan = given_plan
    check_every_task_once(plan)
    check_message_order(plan)
    run_without_buffers(plan, rng)
    check_slots_do_one_thing_at_a_time(plan)
    check_live_frames(cfg, shape, plan)


def check_every_task_once(plan: Plan) -> None:
    counted = Counter((op.task.number, slot) for slot, program in enumerate(plan.programs)
                      for op in program if isinstance(op, Run))
    expected = Counter((task.number, slot) for task in plan.tasks for slot in (
        plan.layout.holders(task.role) if task.kind in COLLECTIVE else [plan.placement[task.site]]))  # type: ignore[index]
    assert counted == expected
    for site, slot in plan.placement.items():
        assert slot in plan.layout.allowed(site.role, site.lane)


def check_message_order(plan: Plan) -> None:
    for source in range(plan.layout.n_slots):
        for destination in range(plan.layout.n_slots):
            sent = [op.transfer for op in plan.programs[source]
                    if isinstance(op, Send) and op.transfer.destination == destination]
            received = [op.transfer for op in plan.programs[destination]
                        if isinstance(op, Receive) and op.transfer.source == source]
            assert sent == received
            assert source != destination or not sent


def run_without_buffers(plan: Plan, rng: random.Random) -> None:
    """Ranks advance in a random order; a message needs both ends at once, a reduction all its ranks."""
    programs = plan.programs
    position = [0] * len(programs)
    present: list[set[tuple[int, str]]] = [set() for _ in programs]  # (task, tensor) on each slot
    done: list[set[int]] = [set() for _ in programs]

    def head(slot: int) -> Op | None:
        return programs[slot][position[slot]] if position[slot] < len(programs[slot]) else None

    def partners(op: Op, slot: int) -> list[int]:
        if isinstance(op, Run):
            return list(plan.layout.holders(op.task.role)) if op.task.kind == Kind.REDUCE else [slot]
        return [op.transfer.source, op.transfer.destination]

    def are_ready(op: Op, slots: list[int]) -> bool:
        def same(other: Op | None) -> bool:
            if isinstance(op, Run):
                return isinstance(other, Run) and other.task is op.task
            return isinstance(other, Send | Receive) and other.transfer is op.transfer
        return all(same(head(slot)) for slot in slots)

    remaining = sum(map(len, programs))
    while remaining:
        order = rng.sample(range(len(programs)), len(programs))
        movable = next(((op, partners(op, slot)) for slot in order
                        if (op := head(slot)) and are_ready(op, partners(op, slot))), None)
        assert movable, f"deadlock at {[head(slot) for slot in order]}"
        op, slots = movable
        if isinstance(op, Run):
            for slot in slots:
                check_inputs(plan, op, slot, present, done)
                done[slot].add(op.task.number)
        else:
            transfer = op.transfer
            assert transfer.producer in done[transfer.source]
            present[transfer.destination] |= {(transfer.producer, name) for name in transfer.tensors}
        for slot in slots:
            position[slot] += 1
        remaining -= len(slots)
    for task in plan.tasks:
        for name, site in task.carries:
            slot = plan.placement[site]
            assert task.number in done[slot] or (task.number, name) in present[slot]


def check_inputs(plan: Plan, run: Run, slot: int, present: list[set[tuple[int, str]]], done: list[set[int]]) -> None:
    for need in run.task.needs:
        if need.task in done[slot]:
            continue
        if run.task.kind == Kind.REDUCE:  # its gradients lie where they were made
            assert any(need.task in numbers for numbers in done)
            continue
        assert need.tensors, f"{run.task.name} continues {plan.tasks[need.task].name} of another rank"
        assert {(need.task, name) for name in need.tensors} <= present[slot], run.task.name


def check_slots_do_one_thing_at_a_time(plan: Plan) -> None:
    for program in plan.programs:
        runs = [op for op in program if isinstance(op, Run) and op.task.kind != Kind.REDUCE]
        for before, after in pairwise(runs):
            assert after.start >= before.end - 1e-9


def check_live_frames(cfg: Config, shape: StepShape, plan: Plan) -> None:
    """In the order of the programs, whatever the times."""
    memory = plan_memory(cfg, plan, shape, simulate(plan, n_steps=3, jitter=0.3).timeline)
    trained = {task.site for task in plan.tasks if task.kind == Kind.BACKWARD}
    for slot, program in enumerate(plan.programs):
        bound = live_frame_bound(plan, slot, shape.in_flight)
        open_scales: Counter[tuple[int, int]] = Counter()
        for op in program:
            if isinstance(op, Run) and op.task.kind in (Kind.LABEL, Kind.BACKWARD):
                frame = op.task.lane, op.task.frames[0]
                open_scales[frame] += op.task.site in trained if op.task.kind == Kind.LABEL else -1
                assert sum(count > 0 for count in open_scales.values()) <= bound
        assert memory[slot].live_frames <= bound
        assert not +open_scales


def test_the_same_input_gives_the_same_plan() -> None:
    cfg = config(generator__fg=True)
    tasks = step_tasks(cfg, steady_shape(4, 6))
    first, second = (make_plan(tasks, colocated(cfg, 8), made_up_costs(cfg)) for _ in range(2))
    assert first.sequence == second.sequence


def test_sites_stay_where_an_earlier_step_put_them() -> None:
    cfg = config()
    costs, layout = made_up_costs(cfg), colocated(cfg, 3)
    steady = make_plan(step_tasks(cfg, steady_shape(2, 4)), layout, costs)
    first = make_plan(step_tasks(cfg, StepShape((LaneChunk(0, 4), LaneChunk(0, 3)))), layout, costs,
                      fixed=steady.placement)
    assert {site: first.placement[site] for site in steady.placement} == steady.placement


def test_off_the_chain_work_does_not_delay_the_chain() -> None:
    """With ranks enough, a step takes its longest chain of tasks."""
    cfg = config(loss__no_vgg=True)
    costs = made_up_costs(cfg)
    plan = make_plan(step_tasks(cfg, steady_shape(1, 4)), split(cfg, 4, 12), costs)
    chain = [task for task in plan.tasks if task.kind == Kind.SYNTHESIS]
    starts = [run.start for run in plan.sequence if isinstance(run, Run) and run.task.kind == Kind.SYNTHESIS]
    hand_over = costs.tensors["image/0"] / costs.machine.link_in_node
    step = costs.seconds("synthesis/0") + hand_over
    assert len(chain) == len(starts) == 4
    assert all(after - before < step + 1e-6 for before, after in pairwise(starts))
