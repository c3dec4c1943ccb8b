"""A plan as text: nothing of it is left out."""

import pytest

from tests.engine.plans import made_up_costs, specs_of
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import split
from vid2vid_dist.engine.plan.schedule import Op, Plan, Run, Transfer, make_plan
from vid2vid_dist.engine.plan.tasks import steady_shape
from vid2vid_dist.engine.plan.text import AROUND, excerpt, plan_text


@pytest.fixture(scope="module")
def plan() -> Plan:
    specs = specs_of(generator__n_scales_spatial=2)
    return make_plan(step_tasks(specs, steady_shape(2, 3)), split(specs, 2, 1), made_up_costs(specs))


def says(plan: Plan, slot: int, op: Op, line: str) -> bool:
    """Whether a line is about an operation of a slot."""
    if isinstance(op, Run):
        return line.startswith(f"run      {op.task.name}")
    kinds = {str(part.kind) for part in op.parts}
    verb, other = {op.source: ("send", f"-> rank {op.destination}"),
                   op.destination: ("receive", f"<- rank {op.source}")}[slot]
    what, _, rest = line.removeprefix(verb).strip().partition(f" of {plan.tasks[op.producer].name} ")
    return line.startswith(verb) and set(what.split(", ")) == kinds and rest == other


def test_every_operation_of_every_rank_is_a_line(plan: Plan) -> None:
    ranks = plan_text(plan).split("\n\n")
    assert len(ranks) == 3
    for slot, (text, program) in enumerate(zip(ranks, plan.programs, strict=True)):
        heading, *lines = text.splitlines()
        assert heading == f"rank {slot} of 3 in a pipeline: {', '.join(plan.layout.roles_on(slot))}"
        assert any(isinstance(op, Run) for op in program)
        assert any(isinstance(op, Transfer) and op.source == slot for op in program)
        assert any(isinstance(op, Transfer) and op.destination == slot for op in program)
        for op, line in zip(program, lines, strict=True):
            assert says(plan, slot, op, line.strip()), line


def test_a_task_names_those_that_it_reads_of(plan: Plan) -> None:
    (line,) = (line.strip() for line in plan_text(plan).splitlines()
               if line.strip().startswith("run      image fake lane 1 frame 2"))
    assert line == "run      image fake lane 1 frame 2  <- generator blend lane 1 frame 2 scale 1"


def test_an_excerpt_marks_the_operation_that_failed(plan: Plan) -> None:
    program = plan.programs[2]
    for index in (0, 1, len(program) // 2, len(program) - 1):
        heading, *lines = excerpt(plan, 2, program, index).splitlines()
        assert heading == f"operation {index + 1} of {len(program)} of this rank's step:"
        first = max(0, index - AROUND)
        shown = program[first:index + AROUND + 1]
        assert [line.startswith("> ") for line in lines] == [number == index for number in range(
            first, first + len(shown))]
        assert all(says(plan, 2, op, line[2:]) for op, line in zip(shown, lines, strict=True))
