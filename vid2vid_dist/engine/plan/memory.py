"""How much memory each rank of a plan needs, by cause, and how many frames it holds at once."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

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
    return [_peak(_always(specs, plan, plan.costs, shape, slot),
                  _events(plan.costs, [run for run in timeline if run.slot == slot and run.task.site is not None]))
            for slot in range(plan.layout.n_slots)]


def average_bytes(cfg: Config, costs: Costs) -> float:
    """Of the averaged generator in float32, which one rank keeps, where there is one."""
    return 4.0 * costs.parameters[GENERATOR] if cfg.optim.ema_decay else 0.0


def _always(specs: RoleSpecs, plan: Plan, costs: Costs, shape: StepShape, slot: int) -> dict[str, float]:
    """Bytes that a slot holds all the time, by cause."""
    holders = plan.layout.slots
    weights = average_bytes(specs.cfg, costs) if slot == holders[GENERATOR][0] else 0.0
    weights += sum(2 * costs.element * n for role, n in costs.parameters.items() if slot in holders[role])
    weights += sum(costs.element * n for role, n in costs.frozen.items() if slot in holders[role])
    shards = 0.0 if costs.offload else sum(SHARD_BYTES * n / len(holders[role]) / plan.n_pipelines
                                           for role, n in costs.parameters.items() if slot in holders[role])
    needed = [needed_frames(specs, plan, slot, lane, chunk) for lane, chunk in enumerate(shape.lanes)]
    of_frame = costs.frame_bytes
    clips = sum(len(found.labels) * of_frame["labels"] + len(found.real) * of_frame["real"] for found in needed)
    return {"weights, gradients": weights, "optimiser shard": shards, "clips": float(clips), "context": CONTEXT_BYTES}


class _Event(NamedTuple):
    """Bytes that come or, negative, go; of the generator also whose frame they are: (lane, frame)."""

    time: float
    comes: bool
    cause: str
    n_bytes: float
    frame: tuple[int, int] | None = None


def _events(costs: Costs, runs: list[Run]) -> Iterator[_Event]:
    """What the tasks of a slot take and give back."""
    last: dict[tuple[Site | None, tuple[int, ...]], float] = {}  # when these frames of a site are done
    for run in runs:
        key = run.task.site, run.task.frames
        last[key] = max(run.end, last.get(key, 0.0))
    trained = {run.task.site for run in runs if run.task.kind in FREES_GRAPH}
    for run in runs:
        task, site, work = run.task, run.task.site, costs.work[run.task.cost_key]
        if site in trained and site is not None:
            cause, frame = ("live frames", (task.lane, site.frame)) if task.role == GENERATOR else ("critics", None)
            yield _Event(run.start, True, cause, work.saved * task.units, frame)
            yield _Event(last[site, task.frames], False, cause, -work.saved * task.units, frame)
        transient = work.transient * task.units
        if task.kind in INTO_WEIGHTS:
            transient += sum(costs.tensors[part.kind] for need in task.needs for part in need.parts
                             if part.kind.what in FEATURES)
        yield _Event(run.start, True, "workspace", transient)
        yield _Event(run.end, False, "workspace", -transient)


def _peak(always: dict[str, float], events: Iterable[_Event]) -> RankMemory:
    now = dict.fromkeys(("live frames", "critics", "workspace"), 0.0)
    fullest, alive, most = dict(now), Counter[tuple[int, int]](), 0
    for event in sorted(events, key=lambda event: event[:2]):  # given back before taken
        now[event.cause] += event.n_bytes
        if event.frame is not None:
            alive[event.frame] += 1 if event.comes else -1
            most = max(most, sum(count > 0 for count in alive.values()))
        if sum(now.values()) > sum(fullest.values()):
            fullest = dict(now)
    return RankMemory({cause: (always | fullest)[cause] for cause in CAUSES}, most)
