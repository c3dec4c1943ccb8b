"""A plan as text: what every rank of a pipeline does, a line per operation."""

from __future__ import annotations

from vid2vid_dist.engine.plan.schedule import Op, Plan, Run, Send

AROUND = 4  # lines shown before and after one that failed


def plan_text(plan: Plan) -> str:
    """All programs, rank by rank."""
    return "\n\n".join("\n".join([f"rank {slot} of {plan.layout.n_slots} in a pipeline: "
                                  f"{', '.join(plan.layout.roles_on(slot))}",
                                  *(f"  {_line(plan, op)}" for op in program)])
                       for slot, program in enumerate(plan.programs))


def excerpt(plan: Plan, program: list[Op], index: int) -> str:
    """The operations around one of a program, which is marked."""
    first = max(0, index - AROUND)
    lines = [f"{'> ' if number == index else '  '}{_line(plan, op)}"
             for number, op in enumerate(program[first : index + AROUND + 1], first)]
    return "\n".join([f"operation {index + 1} of {len(program)} of this rank's step:", *lines])


def _line(plan: Plan, op: Op) -> str:
    if isinstance(op, Run):
        sources = [plan.tasks[need.task].name for need in op.task.needs if need.parts]
        return f"run      {op.task.name}" + (f"  <- {'; '.join(sources)}" if sources else "")
    transfer = op.transfer
    what = ", ".join(dict.fromkeys(str(part.kind) for part in transfer.parts))
    name = plan.tasks[transfer.producer].name
    if isinstance(op, Send):
        return f"send     {what} of {name} -> rank {transfer.destination}"
    return f"receive  {what} of {name} <- rank {transfer.source}"
