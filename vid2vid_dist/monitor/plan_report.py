"""A chosen plan in words and tables: where everything runs, memory, time, and whether it fits."""

from vid2vid_dist.engine.plan.bound import lower_bound
from vid2vid_dist.engine.plan.memory import CAUSES, RankMemory
from vid2vid_dist.engine.plan.placement import Layout
from vid2vid_dist.engine.plan.search import Choice, PlanRequest
from vid2vid_dist.engine.plan.step_graph import step_graph

GB = 1e9


def report(choice: Choice, request: PlanRequest, serial: float, batch_size: int) -> str:
    """Everything, as text. `serial`: seconds of the serial schedule's step; `batch_size`: clips of a lane."""
    reason = f" ({choice.reason})" if choice.reason else ""
    assert choice.plan.costs is not None
    grid = grid_table(choice.plan.layout, choice.n_pipelines, choice.plan.costs.machine.ranks_per_node)
    return "\n".join([
        f"{request.n_frames} frames per chunk, {request.n_lanes * batch_size} clips per step, {request.n_ranks} ranks",
        "",
        headline(choice) + reason, "", grid, "", rank_table(choice), "",
        timing(choice, serial, request.n_lanes * batch_size * request.n_frames), bound_line(choice),
        memory_fit(choice, request)])


def headline(choice: Choice) -> str:
    """Placement, pipelines and lanes in one line."""
    layout = choice.plan.layout
    name = "data parallel" if layout.n_slots == 1 < choice.n_pipelines else layout.name
    return (f"{name}: {choice.n_pipelines} pipeline{'s' * (choice.n_pipelines > 1)} of {layout.n_slots} "
            f"rank{'s' * (layout.n_slots > 1)}, {choice.lanes} lane{'s' * (choice.lanes > 1)} each")


def rank_table(choice: Choice) -> str:
    """Per rank of a pipeline: memory by cause in GB, live frames, busy and idle part of the step."""
    columns = ["slot", *CAUSES, "total GB", "frames at once", "busy", "bubble"]
    rows = [[str(slot), *(f"{memory.by_cause[cause] / GB:.1f}" for cause in CAUSES), f"{memory.total / GB:.1f}",
             str(memory.live_frames), f"{busy:.0%}", f"{1 - busy:.0%}"]
            for slot, (memory, busy) in enumerate(zip(choice.memory, choice.prediction.busy, strict=True))]
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
                     for row in [columns, *rows])


def timing(choice: Choice, serial: float, n_frames: int) -> str:
    """Step time, frames per second over all ranks, which generate `n_frames` in a step, and the serial schedule."""
    period = choice.prediction.period
    return (f"step {1e3 * period:.1f} ms, {n_frames / period:.0f} frames/s, {choice.prediction.mean_busy:.0%} busy; "
            f"the original's serial schedule {1e3 * serial:.1f} ms: {serial / period:.2f}x as fast")


def bound_line(choice: Choice) -> str:
    """What no plan of this placement can beat, and how near this one is."""
    plan, period = choice.plan, choice.prediction.period
    assert plan.costs is not None
    bound = lower_bound(step_graph(plan.tasks, plan.layout, plan.costs, choice.n_pipelines))
    return (f"no plan of this placement takes less than {1e3 * bound.step:.1f} ms (longest chain "
            f"{1e3 * bound.path:.1f}, even work {1e3 * bound.work:.1f}, rounds of like tasks {1e3 * bound.rounds:.1f}) "
            f"or is busier than {bound.busy:.0%}: bound / planned {bound.step / period:.2f}")


def memory_fit(choice: Choice, request: PlanRequest) -> str:
    """Yes or no against the memory, and what to change."""
    need = f"{choice.peak / GB:.1f} GB on the fullest rank"
    if not request.memory:
        return f"needs {need}"
    if choice.fits(request.memory):
        return f"yes: fits into {request.memory / GB:.0f} GB, needs {need}"
    fullest = max(choice.memory, key=lambda rank: rank.total)
    return f"no: {need} do not fit into {request.memory / GB:.0f} GB; {remedy(fullest)}"


def remedy(memory: RankMemory) -> str:
    """What fills a rank most, and what to change."""
    cause = max((c for c in CAUSES if c != "context"), key=lambda c: memory.by_cause[c])
    change = {
        "weights, gradients": "a smaller generator.ngf, or optim.precision=bf16",
        "optimiser shard": "optim.offload=true, more ranks (the shards get smaller), or a smaller generator.ngf",
        "clips": "a shorter chunk (schedule.max_frames_per_rank), fewer clips (parallel.clips_per_step), or smaller "
                 "frames (data.loadSize)",
        "live frames": "optim.checkpoint_activations=true, fewer clips at a time (parallel.clips_per_step), a shorter "
                       "chunk (schedule.max_frames_per_rank), or more ranks per pipeline (parallel.pipelines)",
        "critics": "discriminator.frames_per_pass=1, discriminator.groups_per_pass=1, or more ranks per pipeline "
                   "(parallel.pipelines)",
        "workspace": "discriminator.frames_per_pass=1, flow.network=raft_small or dis, or smaller frames "
                     "(data.loadSize)",
    }[cause]
    return f"most of it is {cause}: try {change}"


def grid_table(layout: Layout, n_pipelines: int, ranks_per_node: int) -> str:
    """The grid as text: one line per pipeline and node, the roles of each rank."""
    lines = []
    for pipeline in range(n_pipelines):
        for slot in range(layout.n_slots):
            rank = pipeline * layout.n_slots + slot
            roles = " ".join(layout.roles_on(slot)) if len(layout.roles_on(slot)) < len(layout.slots) else "all roles"
            lines.append(f"node {rank // ranks_per_node}  pipeline {pipeline}  slot {slot}  rank {rank:3d}  {roles}")
    return "\n".join(lines)
