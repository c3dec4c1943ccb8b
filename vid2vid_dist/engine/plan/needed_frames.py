"""Which frames of its clips a rank decodes for a step: those that its tasks read, and no others."""

from __future__ import annotations

from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan
from vid2vid_dist.engine.plan.tasks import LaneChunk, NeededFrames


def needed_frames(specs: RoleSpecs, plan: Plan, slot: int, lane: int, chunk: LaneChunk,
                  ahead: LaneChunk | None = None) -> NeededFrames:
    """Frames that the tasks of a slot read of a lane's clip, of earlier chunks as well.

    `chunk`: what the step generates of the clip. `ahead`: what tasks that work ahead read; None = the chunk after it,
    as long.
    """
    ahead = ahead or LaneChunk(chunk.n_seen + chunk.n_frames, chunk.n_frames)
    found = NeededFrames()
    for task in plan.tasks:
        if task.lane == lane and task.site is not None and plan.assignment[task.site] == slot:
            found |= specs[task.role].needed_frames(task, ahead if task.is_ahead else chunk)
    return found
