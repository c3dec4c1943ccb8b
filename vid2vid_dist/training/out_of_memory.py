"""Memory that runs out in a step: which knob to turn, with the planner's numbers."""

from collections.abc import Callable

import torch

from vid2vid_dist.engine.plan.memory import CAUSES
from vid2vid_dist.engine.plan.search import Choice
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor.plan_report import GB, remedy

# How PyTorch's allocator for CPUs and C++ say it: as RuntimeError.
_SAID = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory", "std::bad_alloc")


def explain_out_of_memory(error: BaseException, grid: Grid, expect: Callable[[], Choice]) -> UserError | None:
    """What to tell when a step fails for want of memory; None if it failed for another reason.

    `expect`: the step as planned. It is called after the failure, and may itself find no memory: then the message
    goes without its numbers.
    """
    if not is_out_of_memory(error):
        return None
    words = str(error).split("\n")[0]
    try:
        by_slot = expect().memory
        memory = by_slot[grid.rank_in_pipeline]
    except (MemoryError, RuntimeError, UserError):
        return UserError(f"out of memory: {words}. Ask vid2vid-plan with the same configuration and --gpu-memory "
                         "what fits")
    causes = ", ".join(f"{cause} {memory.by_cause[cause] / GB:.2f}" for cause in CAUSES)
    return UserError(
        f"out of memory: {words}. The planner expects {memory.total / GB:.2f} GB on this rank ({causes}); "
        f"{remedy(memory)}. vid2vid-plan --ranks {grid.world_size} --gpu-memory GB says what fits; the same command "
        "goes on from the last checkpoint")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or one that caused it, says that there is no memory left."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in _SAID):
            return True
        error = error.__cause__
    return False
