"""What a plan would do when it runs: period, busy time and bubbles; and the serial schedule beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.schedule import Plan, Run
from vid2vid_dist.engine.plan.tasks import FAR, Kind, Site
from vid2vid_dist.models.temporal import temporal_plan

WARM_UP = 2  # steps until a repeated plan runs at its own pace


@dataclass(frozen=True)
class Prediction:
    """A plan repeated step after step. `period`: seconds from one step to the next; `busy`: fraction of the
    period in which a slot computes, by slot; `timeline`: the runs of the last step as they would happen.
    """

    period: float
    busy: list[float]
    timeline: list[Run]

    @property
    def bubble(self) -> list[float]:
        """Idle fraction of the period, by slot."""
        return [1 - busy for busy in self.busy]

    @property
    def mean_busy(self) -> float:
        return sum(self.busy) / len(self.busy)


@dataclass
class _Clocks:
    """When slots, links and what the step before left are free or there, in seconds."""

    slot: list[float]
    link: dict[tuple[int, int], float] = field(default_factory=dict)
    carried: dict[tuple[Site, str], float] = field(default_factory=dict)


def simulate(plan: Plan, n_steps: int = 6, jitter: float = 0.0, seed: int = 0) -> Prediction:
    """Run the programs of a plan over and over, every slot in its order, waiting where it must.

    `jitter`: standard deviation of the durations, relative. Messages from one slot to another follow each
    other; reductions run beside the tasks.
    """
    assert n_steps > WARM_UP
    rng = np.random.default_rng(seed)
    clocks = _Clocks([0.0] * plan.layout.n_slots)
    ends, steps = [], []
    for _ in range(n_steps):
        factors = 1 + jitter * rng.standard_normal(len(plan.sequence))
        steps.append(_step(plan, clocks, factors.clip(0.1)))
        ends.append(max(clocks.slot))
    counted = steps[WARM_UP:]
    period = (ends[-1] - ends[WARM_UP - 1]) / len(counted)
    worked = [0.0] * plan.layout.n_slots
    for run in (run for step in counted for run in step if run.task.kind != Kind.REDUCE):
        worked[run.slot] += run.end - run.start
    return Prediction(period, [seconds / len(counted) / period for seconds in worked], steps[-1])


def _step(plan: Plan, clocks: _Clocks, factors: np.ndarray) -> list[Run]:
    """One step; advances the clocks."""
    ends: dict[int, float] = {}  # of tasks, by number
    arrivals: dict[tuple[int, int], float] = {}  # of messages, by producer and destination
    begun: dict[int, list[Run]] = {}  # reductions, by task
    updates: list[tuple[Run, float]] = []
    runs = []
    for item, factor in zip(plan.sequence, factors.tolist(), strict=True):
        if not isinstance(item, Run):
            pair = item.source, item.destination
            clocks.link[pair] = max(ends[item.producer], clocks.link.get(pair, 0.0)) + item.seconds
            arrivals[item.producer, item.destination] = clocks.link[pair]
            continue
        task, slot = item.task, item.slot
        if task.kind == Kind.UPDATE:
            updates.append((item, factor))
        elif task.kind == Kind.REDUCE:
            begun.setdefault(task.number, []).append(Run(task, slot, clocks.slot[slot], clocks.slot[slot]))
        else:
            waits = [arrivals.get((need.task, slot), ends[need.task]) for need in task.needs]
            waits += [clocks.carried.get((task.site, name), 0.0) for name in task.carried if task.site]
            start = max([clocks.slot[slot], *waits])
            clocks.slot[slot] = ends[task.number] = start + plan.durations[task.number] * factor
            runs.append(Run(task, slot, start, ends[task.number]))
    runs += _reduce(plan, begun)
    # Whether the weights change is decided by all ranks together: see `Updates`.
    agreed = max(run.end for run in runs)
    clocks.slot = [agreed] * len(clocks.slot)
    for item, factor in updates:
        start = clocks.slot[item.slot]
        clocks.slot[item.slot] = start + plan.durations[item.task.number] * factor
        runs.append(Run(item.task, item.slot, start, clocks.slot[item.slot]))
    clocks.carried = {}
    for task in plan.tasks:
        for name, site in task.carries:
            there = arrivals.get((task.number, plan.placement[site]), ends[task.number])
            clocks.carried[site, name] = max(there, clocks.carried.get((site, name), 0.0))
    return runs


def _reduce(plan: Plan, begun: dict[int, list[Run]]) -> list[Run]:
    """The reductions of a step: each goes on once the last holder has begun it, and has done the one before."""
    runs: list[Run] = []
    free: dict[int, float] = {}  # by slot
    for number, parts in begun.items():
        start = max(max(run.start, free.get(run.slot, 0.0)) for run in parts)
        end = start + plan.durations[number]
        for run in parts:
            free[run.slot] = end
            runs.append(replace(run, end=end))
    return runs


def serial_seconds(cfg: Config, costs: Costs, n_lanes: int, n_frames: int, n_generator: int,
                   n_discriminator: int) -> float:
    """A step of the original's schedule: one clip after the other, its frames one after the other.

    Backward passes of frames lie on different generator GPUs, frames and groups on different discriminator
    GPUs. Flow is computed and all weights are updated on one GPU; per clip the generator's weights are
    broadcast, its gradients collected, in float32, and label stacks sent out. D sees real frames twice and
    each kind of fake one twice, VGG real ones twice (spec: quirks 3.2).
    """
    def once(*kinds: str) -> float:
        return sum(costs.seconds(key) for key in costs.work if key.split("/")[0] in kinds)

    def twice_real(kind: str, scale: int, n_fakes: int) -> float:
        """Both sides of a discriminator without sharing passes, from the costs of the shared ones."""
        real, fake, own = (costs.seconds(f"{kind}_{part}/{scale}") for part in ("real", "fake", "backward"))
        own_pass = own / (1 + n_fakes)
        unused = n_fakes * (own_pass + real) - fake  # weight gradients of the generator's loss
        return 2 * n_fakes * real + fake + 2 * n_fakes * own_pass + max(0.0, unused)

    disc, bandwidth = cfg.discriminator, costs.machine.link_in_node
    frames_each, backwards_each = -(-n_frames // n_discriminator), -(-n_frames // n_generator)
    forward = n_frames * once("label", "foreground", "synthesis")
    backward = backwards_each * once("backward", "foreground_backward")
    judged = frames_each * (twice_real("image", 0, 1 if cfg.generator.no_flow else 2)
                            + 2 * once("perceptual_real") + once("perceptual_fake", "flow_loss"))
    groups = temporal_plan(disc, FAR, n_frames).scales
    temporal = sum(-(-len(g.frames) // n_discriminator) * twice_real("temporal", s, 1) for s, g in enumerate(groups))
    n_flows = n_frames + sum(len(g.frames) * (disc.n_frames_D - 1) for g in groups if g.skips_frames)
    weights = 2 * 4 * costs.parameters["generator"] / bandwidth
    labels = n_frames * cfg.generator.n_frames_G * cfg.label_channels * costs.tensors["raw"] / 3 / bandwidth
    update = sum(costs.update_seconds(role, 1) for role in costs.parameters)
    clip = forward + n_flows * costs.seconds("flow/0") + judged + temporal + backward + weights + labels
    return n_lanes * clip + update
