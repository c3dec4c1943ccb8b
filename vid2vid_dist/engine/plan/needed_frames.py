"""Which frames of its clips a rank decodes for a step: those that its tasks read, and no others."""

from __future__ import annotations

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.schedule import Plan
from vid2vid_dist.engine.plan.tasks import Kind, LaneChunk, Task
from vid2vid_dist.engine.roles.critic_tasks import chunk_groups
from vid2vid_dist.engine.run.clip import Reads


def reads_of(cfg: Config, plan: Plan, slot: int, lane: int, chunk: LaneChunk, ahead: LaneChunk | None = None) -> Reads:
    """Frames that the tasks of a slot read of a lane's clip, of earlier chunks as well.

    `chunk`: what the step generates of the clip. `ahead`: what tasks that work ahead read; None = the chunk after it,
    as long.
    """
    ahead = ahead or LaneChunk(chunk.n_seen + chunk.n_frames, chunk.n_frames)
    found = Reads()
    for task in plan.tasks:
        if task.lane == lane and task.site is not None and plan.placement[task.site] == slot:
            found |= _reads(cfg, task, ahead if task.is_ahead else chunk)
    return found


def _reads(cfg: Config, task: Task, chunk: LaneChunk) -> Reads:
    n_past = cfg.generator.n_frames_G - 1
    frames = frozenset(chunk.n_seen + t for t in task.frames)
    first = min(frames, default=0)
    if task.kind in (Kind.LABEL, Kind.FOREGROUND):
        looks = frames if cfg.generator.style_nc else frozenset[int]()
        return Reads(labels=frozenset(range(first - n_past, first + 1)), real=looks)
    if task.kind == Kind.SYNTHESIS:  # a clip begins with given frames, unless it begins from nothing
        given = () if cfg.generator.no_first_img else range(first - n_past, min(first, 0))
        return Reads(labels=frames if cfg.generator.fg else frozenset(), real=frozenset(given))
    if task.kind in (Kind.FLOW_LOSS, Kind.FLOW):
        return Reads(real=frames | {first - 1})
    if task.kind == Kind.IMAGE_REAL:
        return Reads(labels=frames, real=frames)
    if task.kind == Kind.PERCEPTUAL_REAL:
        return Reads(real=frames)
    if task.kind in (Kind.TEMPORAL_REAL, Kind.SKIPPED_FLOW):
        groups = chunk_groups(cfg, chunk.n_seen, chunk.n_frames, task.scale)
        if task.kind == Kind.TEMPORAL_REAL:
            return Reads(real=frozenset(i for group in groups.frames for i in group))
        pairs = [pair for of_group in groups.flow_pairs for pair in of_group]
        return Reads(real=frozenset(pairs[task.frames[0]]))
    return Reads()
