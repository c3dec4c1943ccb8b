"""A plan as text: what every rank of a pipeline does, a line per operation."""

from vid2vid_dist.engine.plan.schedule import Op, Plan, Run

AROUND = 4  # lines shown before and after one that failed


def plan_text(plan: Plan) -> str:
    """All programs, rank by rank."""
    return "\n\n".join("\n".join([f"rank {slot} of {plan.layout.n_slots} in a pipeline: "
                                  f"{', '.join(plan.layout.roles_on(slot))}",
                                  *(f"  {_line(plan, op, slot)}" for op in program)])
                       for slot, program in enumerate(plan.programs))


def excerpt(plan: Plan, slot: int, program: list[Op], index: int) -> str:
    """The operations around one of a slot's program, which is marked."""
    first = max(0, index - AROUND)
    lines = [f"{'> ' if number == index else '  '}{_line(plan, op, slot)}"
             for number, op in enumerate(program[first : index + AROUND + 1], first)]
    return "\n".join([f"operation {index + 1} of {len(program)} of this rank's step:", *lines])


def _line(plan: Plan, op: Op, slot: int) -> str:
    if isinstance(op, Run):
        sources = [plan.tasks[need.task].name for need in op.task.needs if need.parts]
        return f"run      {op.task.name}" + (f"  <- {'; '.join(sources)}" if sources else "")
    what = f"{', '.join(dict.fromkeys(str(part.kind) for part in op.parts))} of {plan.tasks[op.producer].name}"
    return f"send     {what} -> rank {op.destination}" if slot == op.source else f"receive  {what} <- rank {op.source}"
