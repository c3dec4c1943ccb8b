"""Plans of any kind: complete, in order, free of deadlock under any interleaving, bounded in memory."""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.engine.plans import made_up_costs, specs_of
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.memory import plan_memory
from vid2vid_dist.engine.plan.placement import Layout, colocated, split
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import Op, Plan, Run, Strategy, Transfer, in_order, make_plan
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, Bucket, CostKey, Kind, LaneChunk, StepShape, steady_shape
from vid2vid_dist.engine.plan.tensors import FLOW, WEIGHT, Part, What, image

CHUNKS = st.builds(LaneChunk, st.integers(0, 40), st.integers(0, 12))


def live_frame_bound(plan: Plan, slot: int, in_flight: int) -> int:
    """Frames that a slot can hold at most when `in_flight` lanes (0 = all) are worked on at a time."""
    by_lane: dict[int, set[int]] = {}
    for site, where in plan.assignment.items():
        if where == slot and site.role == "generator":
            by_lane.setdefault(site.lane, set()).add(site.frame)
    largest = sorted((len(frames) for frames in by_lane.values()), reverse=True)
    return sum(largest[:in_flight] if in_flight else largest)


@st.composite
def layouts(draw: st.DrawFn, specs: RoleSpecs) -> Layout:
    n_slots = draw(st.integers(1, 16))
    kind = draw(st.sampled_from(["colocated", "one rank", "split", "table"]))
    if kind == "split" and n_slots > 1:
        n_generator = draw(st.integers(1, n_slots - 1))
        return split(specs, n_generator, n_slots - n_generator)
    if kind == "table":
        some = st.sets(st.integers(0, n_slots - 1), min_size=1).map(lambda slots: tuple(sorted(slots)))
        return Layout("table", {role: draw(some) for role in specs.placed}, n_slots)
    return colocated(specs, 1 if kind == "one rank" else n_slots)


@st.composite
def plans(draw: st.DrawFn) -> tuple[RoleSpecs, StepShape, Plan]:
    """A plan, and what it was made from."""
    inputs = draw(st.sampled_from([{}, {"generator__fg": True}, {"generator__fg": True, "generator__style_nc": 3},
                                   {"data__label_nc": 0, "discriminator__add_face_disc": True}]))
    specs = specs_of(
        **inputs, generator__n_scales_spatial=draw(st.integers(1, 3)), generator__n_frames_G=draw(st.integers(2, 4)),
        generator__no_flow=draw(st.booleans()), loss__no_vgg=draw(st.booleans()),
        discriminator__n_scales_temporal=draw(st.integers(0, 3)), discriminator__sparse_D=draw(st.booleans()),
        discriminator__frames_per_pass=draw(st.integers(0, 3)), discriminator__groups_per_pass=draw(st.integers(0, 2)))
    lanes = draw(st.lists(CHUNKS, min_size=1, max_size=8).filter(lambda chunks: any(c.n_frames for c in chunks)))
    shape = StepShape(tuple(lanes), tuple(draw(st.lists(CHUNKS, max_size=len(lanes)))), draw(st.booleans()),
                      draw(st.integers(1, 12)), draw(st.booleans()), draw(st.integers(0, 3)))
    layout = draw(layouts(specs))
    tasks = step_tasks(specs, shape, whole_chunks=layout.n_slots == 1 and draw(st.booleans()))
    return specs, shape, make_plan(tasks, layout, made_up_costs(specs, draw(st.integers(0, 9))),
                                   strategy=Strategy(draw(st.booleans())))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck),
          phases=[Phase.explicit, Phase.reuse, Phase.generate])  # making a plan smaller takes minutes
@given(plans(), st.integers(0, 2**32))
def test_any_plan(given_plan: tuple[RoleSpecs, StepShape, Plan], seed: int) -> None:
    specs, shape, plan = given_plan
    check_every_task_once(plan)
    check_message_order(plan)
    rng = random.Random(seed)
    run_without_buffers(plan, rng)
    run_without_buffers(plan, rng, rng.sample(specs.buckets, len(specs.buckets)))
    check_slots_do_one_thing_at_a_time(plan)
    check_live_frames(specs, shape, plan)


def check_every_task_once(plan: Plan) -> None:
    counted = Counter((op.task.number, slot) for slot, program in enumerate(plan.programs)
                      for op in program if isinstance(op, Run))
    expected = Counter((task.number, slot) for task in plan.tasks for slot in (
        plan.layout.slots[task.role] if task.kind in COLLECTIVE else [plan.assignment[task.site]]))  # type: ignore[index]
    assert counted == expected
    for site, slot in plan.assignment.items():
        assert slot in plan.layout.slots[site.role]


def check_message_order(plan: Plan) -> None:
    programs = plan.programs
    for source in range(plan.layout.n_slots):
        for destination in range(plan.layout.n_slots):
            sent, received = ([op for op in programs[slot] if isinstance(op, Transfer)
                               and (op.source, op.destination) == (source, destination)]
                              for slot in (source, destination))
            assert sent == received
            assert source != destination or not sent


def run_without_buffers(plan: Plan, rng: random.Random, turn: Sequence[Bucket] = ()) -> None:
    """Ranks advance in a random order; a message needs both ends at once, a reduction all its ranks. `turn`: the order
    of reductions, of buckets besides for which the plan has no task as well."""
    turn = turn or plan.reductions
    programs = plan.programs_in(turn)
    for slot, program in enumerate(programs):
        reduced = [op.task.reduces for op in program if isinstance(op, Run) and op.task.kind == Kind.REDUCE]
        assert reduced == [bucket for bucket in turn if slot in plan.layout.slots[bucket.role]]
    position = [0] * len(programs)
    present: list[set[tuple[int, Part]]] = [set() for _ in programs]  # (task, tensor) on each slot
    done: list[set[int]] = [set() for _ in programs]

    def head(slot: int) -> Op | None:
        return programs[slot][position[slot]] if position[slot] < len(programs[slot]) else None

    def partners(op: Op, slot: int) -> list[int]:
        if isinstance(op, Run):
            return list(plan.layout.slots[op.task.role]) if op.task.kind == Kind.REDUCE else [slot]
        return [op.source, op.destination]

    def are_ready(op: Op, slots: list[int]) -> bool:
        def same(other: Op | None) -> bool:
            if isinstance(op, Run):
                return isinstance(other, Run) and other.task is op.task
            return other is op
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
            assert op.producer in done[op.source]
            present[op.destination] |= {(op.producer, part) for part in op.parts}
        for slot in slots:
            position[slot] += 1
        remaining -= len(slots)
    for task in plan.tasks:
        for part, site in task.to_next_step:
            slot = plan.assignment[site]
            assert task.number in done[slot] or (task.number, part) in present[slot]


def check_inputs(plan: Plan, run: Run, slot: int, present: list[set[tuple[int, Part]]], done: list[set[int]]) -> None:
    for need in run.task.needs:
        if need.task in done[slot]:
            continue
        if run.task.kind == Kind.REDUCE:  # its gradients lie where they were made
            assert any(need.task in numbers for numbers in done)
            continue
        assert need.parts, f"{run.task.name} continues {plan.tasks[need.task].name} of another rank"
        assert {(need.task, part) for part in need.parts} <= present[slot], run.task.name


def check_slots_do_one_thing_at_a_time(plan: Plan) -> None:
    """In the order of the program."""
    timeline = simulate(plan).timeline
    for slot, program in enumerate(plan.programs):
        planned = [op.task.number for op in program if isinstance(op, Run) and op.task.kind != Kind.REDUCE]
        runs = [run for run in timeline if run.slot == slot and run.task.kind != Kind.REDUCE]
        assert [run.task.number for run in runs] == planned
        for before, after in pairwise(runs):
            assert after.start >= before.end - 1e-9


def check_live_frames(specs: RoleSpecs, shape: StepShape, plan: Plan) -> None:
    """In the order of the programs, whatever the times."""
    memory = plan_memory(specs, plan, shape, simulate(plan, n_steps=3, jitter=0.3).timeline)
    trained = {task.site for task in plan.tasks if task.kind == Kind.SYNTHESIS_BACKWARD}
    for slot, program in enumerate(plan.programs):
        bound = live_frame_bound(plan, slot, shape.in_flight)
        open_scales: Counter[tuple[int, int]] = Counter()
        for op in program:
            if isinstance(op, Run) and op.task.kind in (Kind.SYNTHESIS, Kind.SYNTHESIS_BACKWARD):
                frame = op.task.lane, op.task.frames[0]
                open_scales[frame] += op.task.site in trained if op.task.kind == Kind.SYNTHESIS else -1
                assert sum(count > 0 for count in open_scales.values()) <= bound
        assert memory[slot].live_frames <= bound
        assert not +open_scales


def test_the_same_input_gives_the_same_plan() -> None:
    specs = specs_of(generator__fg=True)
    tasks = step_tasks(specs, steady_shape(4, 6))
    first, second = (make_plan(tasks, colocated(specs, 8), made_up_costs(specs)) for _ in range(2))
    assert first.sequence == second.sequence


def test_sites_stay_where_an_earlier_step_put_them() -> None:
    specs = specs_of()
    costs, layout = made_up_costs(specs), colocated(specs, 3)
    steady = make_plan(step_tasks(specs, steady_shape(2, 4)), layout, costs)
    first = make_plan(step_tasks(specs, StepShape((LaneChunk(0, 4), LaneChunk(0, 3)))), layout, costs,
                      fixed=steady.assignment)
    both = first.assignment.keys() & steady.assignment.keys()
    assert {site.role for site in both} >= {"generator", "image"}
    assert {site: first.assignment[site] for site in both} == {site: steady.assignment[site] for site in both}


def test_off_the_chain_work_does_not_delay_the_chain() -> None:
    """With ranks enough, a step takes its longest chain of tasks."""
    specs = specs_of(loss__no_vgg=True)
    costs = made_up_costs(specs)
    plan = make_plan(step_tasks(specs, steady_shape(1, 4)), split(specs, 4, 12), costs)
    starts = [run.start for run in simulate(plan).timeline if run.task.kind == Kind.SYNTHESIS]
    hand_over = sum(costs.tensors[kind] for kind in (image(0), What.TRUNK.at(0), What.WARPED.at(0), FLOW, WEIGHT))
    past, synthesis, flow, blend = (costs.seconds(CostKey("generator", kind))
                                    for kind in (Kind.PAST, Kind.SYNTHESIS, Kind.FLOW, Kind.BLEND))
    step = past + max(synthesis, flow) + blend + hand_over / costs.machine.link_in_node
    assert len(starts) == 4
    assert all(after - before < step + 1e-6 for before, after in pairwise(starts))


def test_one_slot_runs_the_tasks_as_they_are_numbered_and_reduces_as_soon_as_it_can() -> None:
    specs = specs_of(generator__fg=True)
    tasks = step_tasks(specs, steady_shape(2, 3), whole_chunks=True)
    plan = in_order(tasks, colocated(specs, 1), made_up_costs(specs))
    runs = [item for item in plan.sequence if isinstance(item, Run)]
    assert len(runs) == len(plan.sequence), "nobody is there to send to"
    order = [run.task for run in runs]
    computed = [task for task in order if task.kind not in COLLECTIVE]
    assert computed == sorted(computed, key=lambda task: task.number)
    first_update = next(i for i, task in enumerate(order) if task.kind == Kind.UPDATE)
    assert all(task.kind == Kind.UPDATE for task in order[first_update:])
    for i, task in enumerate(order[:first_update]):
        if task.kind == Kind.REDUCE:  # right after the last of its gradients, or beside one that is
            last = max(need.task for need in task.needs)
            before = next(other for other in reversed(order[:i]) if other.kind not in COLLECTIVE)
            assert before.number == last
    assert tuple(dict.fromkeys(bucket.role for bucket in plan.reductions)) == tuple(
        task.role for task in order if task.kind == Kind.UPDATE)
    done: set[int] = set()
    for task in order:
        assert done >= {need.task for need in task.needs} | set(task.after)
        done.add(task.number)


def test_one_slot_needs_no_costs() -> None:
    """Its order is the same; only the times are not known."""
    specs = specs_of(generator__fg=True)
    tasks, layout = step_tasks(specs, steady_shape(2, 3)), colocated(specs, 1)
    plain, timed = in_order(tasks, layout), make_plan(tasks, layout, made_up_costs(specs))
    assert plain.costs is None
    assert not any(plain.durations)
    assert [item.task for item in plain.sequence] == [item.task for item in timed.sequence]  # type: ignore[union-attr]
    assert plain.assignment == timed.assignment
    assert all(duration > 0 for duration in timed.durations)
