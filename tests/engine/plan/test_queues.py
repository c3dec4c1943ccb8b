"""No plan hangs on a GPU's streams, whatever shares a hardware queue; and the model would find it."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.plan.queues import BESIDE, TASKS, Command, Issued, issued, stuck
from tests.engine.plan.test_schedule import plans
from vid2vid_dist.cli.plan import typical_size
from vid2vid_dist.config.load import load_config
from vid2vid_dist.engine.plan.costs import Costs, count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated, split
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan, Run, Strategy, make_plan
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, Bucket, StepShape, steady_shape
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.training.curriculum import LONGEST_CLIP, n_epochs, phase

QUEUES = (1, 2, 8, 32)
RECIPES = ("street/512", "street/1024", "street/2048", "street/modern/1024", "street/modern/2048", "face/512",
           "pose/1024")
QUICK = ("street/512", "street/2048", "face/512", "pose/1024")


def hangs(plan: Plan, turn: Sequence[Bucket] = ()) -> dict[int, list[str]]:
    """By number of queues."""
    commands = [issued(plan, slot, turn or plan.reductions) for slot in range(plan.layout.n_slots)]
    return {n: found for n in QUEUES if (found := stuck(commands, n))}


def issued_behind_the_last_task(plan: Plan, slot: int, stream: str) -> list[Command]:
    """As an engine does it that reduces a role when this rank has no more to do for it, not where the plan says."""
    found = Issued(plan, slot)
    waiting = [bucket for bucket in plan.reductions if slot in plan.layout.slots[bucket.role]]
    program = plan.programs[slot]
    left = Counter(op.task.role for op in program if isinstance(op, Run) and op.task.kind not in COLLECTIVE)

    def reduce() -> None:
        while waiting and not left[waiting[0].role]:
            found.reduction(waiting.pop(0), stream)

    reduce()
    for op in program:
        if not isinstance(op, Run):
            found.message(op)
        elif op.task.kind not in COLLECTIVE:
            found.task(op)
            left[op.task.role] -= 1
            reduce()
    return found.commands


@cache
def counted(recipe: str) -> tuple[RoleSpecs, Costs, int, int]:
    """Roles and costs of a recipe, frames of its longest chunk, and how far back its gradients reach."""
    cfg = load_config(Path(recipe), [])
    last = phase(cfg, n_epochs(cfg), LONGEST_CLIP)
    specs = role_specs(cfg)
    width, height = typical_size(cfg.parallel.source_size, cfg.data)
    return specs, count_costs(specs, height, width), last.chunk_frames, last.n_frames_bp


@cache
def plans_of(recipe: str, n_ranks: int, lanes: Sequence[int]) -> list[Plan]:
    """A pipeline of so many ranks: colocated, and split in all ways or, on many ranks, in some."""
    specs, costs, n_frames, n_frames_bp = counted(recipe)
    layouts = [colocated(specs, n_ranks)]
    layouts += [split(specs, n, n_ranks - n) for n in range(1, n_ranks, 1 if n_ranks <= 8 else n_ranks // 4)]
    return [make_plan(step_tasks(specs, steady_shape(n_lanes, n_frames, n_frames_bp)), layout, costs,
                      strategy=Strategy(split_scales=number % 2 > 0))
            for number, layout in enumerate(layouts) for n_lanes in lanes]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans(), st.randoms(use_true_random=False))
def test_no_small_plan_hangs(given_plan: tuple[RoleSpecs, StepShape, Plan], rng: object) -> None:
    """In whatever order the roles are reduced, also those for which this pipeline computes nothing."""
    specs, _, plan = given_plan
    turn = rng.sample(specs.buckets, len(specs.buckets))  # type: ignore[attr-defined]
    assert not hangs(plan, turn)


@pytest.mark.parametrize("n_ranks", [2, 3, 4, pytest.param(8, marks=pytest.mark.long),
                                     *(pytest.param(n, marks=pytest.mark.full) for n in (16, 64))])
@pytest.mark.parametrize("recipe", [
    recipe if recipe in QUICK else pytest.param(recipe, marks=pytest.mark.long) for recipe in RECIPES])
def test_no_recipe_hangs(recipe: str, n_ranks: int) -> None:
    for plan in plans_of(recipe, n_ranks, (1, 2, 3, 4) if n_ranks > 4 or recipe not in QUICK else (1, 2)):
        assert not hangs(plan)


@pytest.mark.parametrize("cases", [
    [(recipe, 4, (1, 2)) for recipe in QUICK],
    pytest.param([(recipe, n, (1, 2, 3, 4)) for recipe in RECIPES for n in (2, 4, 8)], marks=pytest.mark.full)],
    ids=["quick", "all"])
def test_the_model_finds_reductions_that_are_out_of_order(cases: list[tuple[str, int, tuple[int, ...]]]) -> None:
    """Behind the role's last task on each rank, plans hang; in a stream of their own only where it shares a queue."""
    found = {stream: dict.fromkeys(QUEUES, 0) for stream in (TASKS, BESIDE)}
    plans = [plan for case in cases for plan in plans_of(*case)]
    for plan in plans:
        for stream, of_stream in found.items():
            commands = [issued_behind_the_last_task(plan, slot, stream) for slot in range(plan.layout.n_slots)]
            for n in QUEUES:
                of_stream[n] += bool(stuck(commands, n))
    print(f"of {len(plans)} plans hang, by queues: {found}")
    assert found[TASKS][8] > 0
    assert found[BESIDE][2] > 0
    assert not found[BESIDE][32]


def test_what_hangs_is_named() -> None:
    plan = plans_of("street/512", 4, (1, 2))[1]
    backwards = [list(reversed(issued(plan, slot, plan.reductions))) for slot in range(4)]
    assert any("slot 0 at" in line for line in stuck(backwards, 1))
