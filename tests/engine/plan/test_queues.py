"""No plan hangs on a GPU's streams, whatever shares a hardware queue; and the model would find it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.plan.test_schedule import plans
from vid2vid_dist.cli.plan import typical_size
from vid2vid_dist.config.load import load_config
from vid2vid_dist.engine.plan.costs import count_costs
from vid2vid_dist.engine.plan.queues import BESIDE, TASKS, Command, Issued, issued, stuck
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan, Run
from vid2vid_dist.engine.plan.search import PlanRequest, choose
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, StepShape
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.errors import UserError
from vid2vid_dist.training.curriculum import LONGEST_CLIP, n_epochs, phase

QUEUES = (1, 2, 8, 32)
RECIPES = ("street/512", "street/1024", "street/2048", "street/modern/1024", "street/modern/2048", "face/512",
           "pose/1024")
QUICK = ("street/512", "street/2048", "face/512", "pose/1024")
RANKS = (2, 3, 4, 8, 16, 64)
MATRIX = list(itertools.product(RECIPES, RANKS, ("split", "colocated")))


def hangs(plan: Plan, turn: Sequence[str] = ()) -> dict[int, list[str]]:
    """By number of queues."""
    commands = [issued(plan, slot, turn or plan.reductions) for slot in range(plan.layout.n_slots)]
    return {n: found for n in QUEUES if (found := stuck(commands, n))}


def issued_behind_the_last_task(plan: Plan, slot: int, stream: str) -> list[Command]:
    """As an engine does it that reduces a role when this rank has no more to do for it, not where the plan says."""
    found, waiting = Issued(plan, slot), [role for role in plan.reductions if slot in plan.layout.slots[role]]
    program = plan.programs[slot]
    left = Counter(op.task.role for op in program if isinstance(op, Run) and op.task.kind not in COLLECTIVE)

    def reduce() -> None:
        while waiting and not left[waiting[0]]:
            found.reduction(waiting.pop(0), stream)

    reduce()
    for op in program:
        if not isinstance(op, Run):
            found.message(op.transfer)
        elif op.task.kind not in COLLECTIVE:
            found.task(op)
            left[op.task.role] -= 1
            reduce()
    return found.commands


@cache
def plans_of(recipe: str, n_ranks: int, placement: str, lanes: Sequence[int]) -> list[Plan]:
    """What fits of a recipe's plans; lanes are per pipeline."""
    cfg = load_config(Path(recipe), [])
    last = phase(cfg, n_epochs(cfg), LONGEST_CLIP)
    specs = role_specs(cfg)
    width, height = typical_size(cfg.parallel.source_size, cfg.data)
    costs = count_costs(specs, height, width)
    found = []
    for n_lanes in lanes:
        with suppress(UserError):  # no such placement: the message is tested elsewhere
            found.append(choose(specs, costs, PlanRequest(n_ranks, n_lanes, last.chunk_frames, placement, 1,
                                                          n_frames_bp=last.n_frames_bp)).plan)
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans(), st.randoms(use_true_random=False))
def test_no_small_plan_hangs(given_plan: tuple[RoleSpecs, StepShape, Plan], rng: object) -> None:
    """In whatever order the roles are reduced, also those for which this pipeline computes nothing."""
    specs, _, plan = given_plan
    turn = rng.sample(specs.trained, len(specs.trained))  # type: ignore[attr-defined]
    assert not hangs(plan, turn)


@pytest.mark.parametrize(("recipe", "n_ranks", "placement"), [
    case if case[0] in QUICK and case[1] == 4 else pytest.param(*case, marks=pytest.mark.long) for case in MATRIX])
def test_no_recipe_hangs(recipe: str, n_ranks: int, placement: str) -> None:
    quick = recipe in QUICK and n_ranks == 4
    for plan in plans_of(recipe, n_ranks, placement, (2,) if quick else (1, 2, 3, 4)):
        assert not hangs(plan)


@pytest.mark.parametrize("cases", [
    list(itertools.product(QUICK, (4,), ("split", "colocated"))),
    pytest.param(list(itertools.product(RECIPES, (2, 4, 8), ("split", "colocated"))), marks=pytest.mark.long)],
    ids=["quick", "all"])
def test_the_model_finds_reductions_that_are_out_of_order(cases: list[tuple[str, int, str]]) -> None:
    """Behind the role's last task on each rank, plans hang: more of them where they stand in the tasks' own stream."""
    found = {stream: dict.fromkeys(QUEUES, 0) for stream in (TASKS, BESIDE)}
    for plan in (plan for case in cases for plan in plans_of(*case, (2,))):
        for stream, of_stream in found.items():
            commands = [issued_behind_the_last_task(plan, slot, stream) for slot in range(plan.layout.n_slots)]
            for n in QUEUES:
                of_stream[n] += bool(stuck(commands, n))
    print(f"of {len(cases)} plans hang, by queues: {found}")
    assert found[TASKS][8] > 0
    assert found[BESIDE][2] > 0
    assert not found[BESIDE][32]
    assert all(found[TASKS][n] >= found[BESIDE][n] for n in QUEUES)


def test_what_hangs_is_named() -> None:
    plan, = plans_of("street/512", 4, "colocated", (2,))
    backwards = [list(reversed(issued(plan, slot, plan.reductions))) for slot in range(4)]
    assert any("slot 0 at" in line for line in stuck(backwards, 1))
