"""How much memory each rank of a plan needs, by cause, and how many frames it holds at once."""

from __future__ import annotations

from dataclasses import dataclass

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.role import GENERATOR, RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan, Run, needed_frames
from vid2vid_dist.engine.plan.tasks import FREES_GRAPH, INTO_WEIGHTS, Site, StepShape
from vid2vid_dist.engine.plan.tensors import What

SHARD_BYTES = 12  # per parameter, over all ranks of a role: float32 master weight and Adam's two moments
CONTEXT_BYTES = 2e9  # CUDA context, communication buffers, convolution workspace: an allowance
FEATURES = (What.TRUNK, What.FEATURES, What.FLOW_FEATURES, What.FG_FEATURES)  # too large to overlook
CAUSES = ("weights, gradients", "optimiser shard", "clips", "live frames", "critics", "workspace", "context")


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank by cause at its fullest moment, and the most frames of the generator alive at once."""

    by_cause: dict[str, float]
    live_frames: int

    @property
    def total(self) -> float:
        return sum(self.by_cause.values())


def plan_memory(specs: RoleSpecs, plan: Plan, shape: StepShape, timeline: list[Run]) -> list[RankMemory]:
    """Peak memory by slot, for the runs of one step in the order of their starts.

    Labels and real frames that a slot reads ("clips") are there all the time. What autograd saves stays from its task
    to the last task of the site. What a task needs only while it runs, RAFT's volume, gradients of feature maps or
    activations computed again, is workspace.
    """
    assert plan.costs is not None
    averages = plan.layout.slots[GENERATOR][0]
    return [_of_slot(plan, plan.costs, slot, [run for run in timeline if run.slot == slot],
                     _clips(specs, plan, plan.costs, shape, slot),
                     average_bytes(specs.cfg, plan.costs) if slot == averages else 0.0)
            for slot in range(plan.layout.n_slots)]


def average_bytes(cfg: Config, costs: Costs) -> float:
    """Of the averaged generator in float32, which one rank keeps, where there is one."""
    return 4.0 * costs.parameters[GENERATOR] if cfg.optim.ema_decay else 0.0


def _clips(specs: RoleSpecs, plan: Plan, costs: Costs, shape: StepShape, slot: int) -> float:
    """Bytes of the frames of all lanes that a slot reads."""
    needed = [needed_frames(specs, plan, slot, lane, chunk) for lane, chunk in enumerate(shape.lanes)]
    of_frame = costs.frame_bytes
    return float(sum(len(found.labels) * of_frame["labels"] + len(found.real) * of_frame["real"] for found in needed))


def _of_slot(plan: Plan, costs: Costs, slot: int, runs: list[Run], clips: float, average: float) -> RankMemory:
    roles = [role for role in costs.parameters if slot in plan.layout.slots[role]]
    weights = average + sum(2 * costs.element * costs.parameters[role] for role in roles)
    weights += sum(costs.element * n for role, n in costs.frozen.items() if slot in plan.layout.slots[role])
    shards = 0.0 if costs.offload else sum(
        SHARD_BYTES * costs.parameters[role] / len(plan.layout.slots[role]) / plan.n_pipelines for role in roles)
    fixed = {"weights, gradients": float(weights), "optimiser shard": shards, "clips": clips, "context": CONTEXT_BYTES}

    last: dict[Site, float] = {}  # when a site is done
    trained: set[Site] = set()
    for run in runs:
        if run.task.site is not None:
            last[run.task.site] = max(run.end, last.get(run.task.site, 0.0))
            if run.task.kind in FREES_GRAPH:
                trained.add(run.task.site)
    # (time, 0 = give back before 1 = take, cause, bytes, frame)
    events: list[tuple[float, int, str, float, tuple[int, int] | None]] = []
    for run in runs:
        task, site = run.task, run.task.site
        if site is None:
            continue
        if site in trained:
            cause = "live frames" if task.role == GENERATOR else "critics"
            saved = costs.work[task.cost_key].saved * task.units
            frame = (task.lane, site.frame) if task.role == GENERATOR else None
            events += [(run.start, 1, cause, saved, frame), (last[site], 0, cause, -saved, frame)]
        transient = costs.work[task.cost_key].transient * task.units
        if task.kind in INTO_WEIGHTS:
            transient += sum(costs.tensors[part.kind] for need in task.needs for part in need.parts
                             if part.kind.what in FEATURES)
        events += [(run.start, 1, "workspace", transient, None), (run.end, 0, "workspace", -transient, None)]
    return _peak(events, fixed)


def _peak(events: list[tuple[float, int, str, float, tuple[int, int] | None]], fixed: dict[str, float]) -> RankMemory:
    now = dict.fromkeys(("live frames", "critics", "workspace"), 0.0)
    fullest = dict(now)
    alive: dict[tuple[int, int], int] = {}
    most = 0
    for _, is_take, cause, n_bytes, frame in sorted(events, key=lambda event: event[:2]):
        now[cause] += n_bytes
        if frame is not None:
            alive[frame] = alive.get(frame, 0) + (1 if is_take else -1)
            most = max(most, sum(count > 0 for count in alive.values()))
        if sum(now.values()) > sum(fullest.values()):
            fullest = dict(now)
    return RankMemory({cause: (fixed | fullest)[cause] for cause in CAUSES}, most)
