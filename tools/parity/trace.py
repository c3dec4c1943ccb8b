"""Whole training runs of the original, in float64: losses of every chunk, frames, weights at the end.

Two slips of the original are part of its numbers; our trainer does what was meant, and only this module follows
the record: `RecordedWarp` and the optimiser that is not replaced in `TraceRun.next_phase`.

Running statistics are left out. No output depends on them, the discriminators' count forward passes (ours makes
one over the real frames instead of two), and the means contain the biases that have no gradient.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tools.lanes import advance, clip_of
from tools.parity.case import Case, Check
from tools.parity.compare import thin
from tools.parity.options import config_of_case
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.costs import count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated, split
from vid2vid_dist.engine.plan.planner import left_at
from vid2vid_dist.engine.plan.role import RateGroup, RoleSpecs
from vid2vid_dist.engine.plan.schedule import in_order, make_plan
from vid2vid_dist.engine.plan.tasks import LaneChunk, Site, StepShape
from vid2vid_dist.engine.roles.build import build_modules, build_roles, role_specs
from vid2vid_dist.engine.roles.flow import WarpRole
from vid2vid_dist.engine.roles.kinds import shown_kinds
from vid2vid_dist.engine.run.executor import Executor
from vid2vid_dist.engine.run.grid import Grid, solo_grid
from vid2vid_dist.engine.run.tensor_store import LanePart, Shown
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.flow import FlowReference
from vid2vid_dist.models.perceptual import VGG19Features
from vid2vid_dist.training.curriculum import Phase, phase

RELATIVE = 1e-9  # of float64 losses and sums of weights
STORED = 2e-7  # stored float64 results were rounded to float32
SPREAD = 10.0  # times the distance of two runs of ours that differ in rounding only
NAMES = {"generator": "G", "image": "D.netD", "face": "D.netD_f"}
VIDEO = 30  # frames of the videos behind the stored clips; only caps the clip length, which is given


class StandInFlow(torch.nn.Module):
    """The reference flow that the golden runs used in place of a network."""

    def forward(self, current: Tensor, previous: Tensor) -> FlowReference:
        a, b = current.unbind(-3), previous.unbind(-3)
        flow = torch.stack([4 * (a[0] - b[1]), 2 * (b[2] - a[0])], dim=-3)
        error = (current - previous).square().sum(dim=-3, keepdim=True)
        return FlowReference(flow, (error < 0.3).to(flow.dtype))


class RecordedWarp(WarpRole):
    """Past the first chunk, the frame "before" a chunk is the chunk's own last one: called without its wrapper,
    the original's generator appends to the list that it was given (spec: quirks Q14, Q15)."""

    def before(self, frame: int, chunk: LaneChunk) -> int:
        return chunk.n_frames - 1 if frame == 0 and chunk.n_seen else frame - 1


@dataclass
class Chunk:
    """One optimiser step of ours: losses, totals included, and the frames it made."""

    losses: dict[str, float]
    fake: Tensor


@dataclass
class Outcome:
    """Our run: its steps, the weights at its end, and their sums as the golden data record them."""

    chunks: list[Chunk]
    final: dict[str, Tensor]
    stats: dict[str, dict[str, float]]


def check(case: Case, grid: Grid | None = None) -> list[Check]:
    """`grid`: of one rank, for another device than the CPU."""
    cfg, tensors = config_of(case), case.tensors()
    ours = train(cfg, case.meta, tensors, grid=grid)
    return compare(case, ours, spread(cfg, case.meta, tensors, grid) or ours)


def config_of(case: Case) -> Config:
    cfg = config_of_case(case.options)
    cfg.optim.precision, cfg.optim.backend = "fp64", "plain"
    return cfg


def spread(cfg: Config, meta: dict[str, Any], tensors: dict[str, Tensor], grid: Grid | None = None) -> Outcome | None:
    """Another run of ours, for how far runs may part; None where they may not.

    From an all-zero first image, every norm layer divides rounding noise by sqrt(1e-5), in float64 too: other
    vector instructions give another run. How far such runs part is measured here, not assumed.
    """
    return train(cfg, meta, tensors, nudge=2.0**-52, grid=grid) if cfg.generator.no_first_img else None


def compare(case: Case, ours: Outcome, other: Outcome) -> list[Check]:
    """Our run against the record, as far as two runs of ours agree."""
    tensors = case.tensors()
    return [
        *_check_losses([chunk["losses_f64"] for chunk in case.meta["chunks"]], ours, other),
        *_check_frames(tensors, ours, other),
        *_check_weights(case.meta["final_param_stats"], tensors, ours, other),
    ]


def train(cfg: Config, meta: dict[str, Any], tensors: dict[str, Tensor], nudge: float = 0.0,
          grid: Grid | None = None) -> Outcome:
    """Our run of the trace, on one rank or on the two of a grid: the generator on one, all critics on the other. All
    ranks return the whole outcome. `nudge` scales the generator's first weights by 1 + nudge."""
    run = TraceRun(cfg, grid or solo_grid(), tensors)
    if run.generator is not None:
        for p in run.generator.parameters():
            p.data.mul_(1 + nudge)
    initial = run.weights()
    chunks = run.all_clips(meta, tensors)
    return outcome(chunks, initial, run.weights())


def outcome(chunks: list[Chunk], initial: dict[str, Tensor], final: dict[str, Tensor]) -> Outcome:
    return Outcome(chunks, final, {name: _stats(initial[name], final[name]) for name in final})


def _stats(before: Tensor, after: Tensor) -> dict[str, float]:
    return {
        "sum_f64": float(after.sum()),
        "abs_sum_f64": float(after.abs().sum()),
        "l2_change_from_init_f64": float((after.double() - before.double()).norm()),
    }


def recorded_specs(cfg: Config) -> RoleSpecs:
    """The roles of a configuration as the original ran them."""
    specs = role_specs(cfg)
    return RoleSpecs(cfg, tuple(RecordedWarp(cfg) if isinstance(spec, WarpRole) else spec for spec in specs.all))


def stored_modules(cfg: Config, tensors: dict[str, Tensor]) -> dict[str, torch.nn.Module]:
    """The trained networks with the stored weights, in float64."""
    modules = build_modules(role_specs(cfg))
    for role, module in modules.items():
        prefix = f"sd.{_original_name(role)}."
        module.double().load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return modules


def stand_ins(cfg: Config) -> dict[str, torch.nn.Module]:
    """What the golden runs had in place of FlowNet2 and the trained VGG19."""
    return {"flow": StandInFlow(), **({} if cfg.loss.no_vgg else {"perceptual": random_vgg19()})}


def random_vgg19() -> VGG19Features:
    """The untrained VGG19 of the golden runs."""
    torch.manual_seed(0)
    return VGG19Features(models.vgg19(weights=None).features)


class TraceRun:
    """The roles of a trace with the stored weights, and its steps."""

    def __init__(self, cfg: Config, grid: Grid, tensors: dict[str, Tensor]) -> None:
        self.cfg, self.specs, self.grid = cfg, recorded_specs(cfg), grid
        self.layout = colocated(self.specs, 1) if grid.n_slots == 1 else split(self.specs, 1, 1)
        now = phase(cfg, 1, VIDEO)
        # The recorded optimiser never gets the scales that it began without (spec: quirks Q3).
        self.trains_all_scales = now.train_all_scales
        roles = build_roles(self.specs, grid.holders(self.layout.slots), stored_modules(cfg, tensors), stand_ins(cfg),
                            now.rates, now.train_all_scales)
        self.executor = Executor(roles, self.specs.shapes(), grid.rank_in_pipeline, Transport(grid), torch.float64,
                                 self.specs.buckets)
        self.engines = self.executor.engines()
        self.generator = self.engines["generator"].module if "generator" in self.engines else None

    def all_clips(self, meta: dict[str, Any], tensors: dict[str, Tensor]) -> list[Chunk]:
        """In their order, epoch by epoch."""
        chunks, epoch = [], 1
        now = phase(self.cfg, epoch, VIDEO)
        for event in meta["events"]:
            if event["type"] == "end_of_epoch":
                epoch += 1
                now = self.next_phase(epoch, event)
            else:
                chunks += self.clip(now, recorded_clips(self.cfg, tensors, event["iter"]))
        return chunks

    def next_phase(self, epoch: int, event: dict[str, Any]) -> Phase:
        now = phase(self.cfg, epoch, VIDEO)
        # Past the finest-only epochs the original kept stepping its first optimiser, at the rate that it had then
        # (spec: quirks Q3), and the temporal ones at theirs. Our trainer does what was meant; here the recorded
        # behaviour is followed.
        for name, engine in self.engines.items():
            group = self.specs[name].rate
            assert group is not None
            follows = event["modelG_optimizer_is_the_loop_optimizer"] if group == RateGroup.GENERATOR else (
                group == RateGroup.DISCRIMINATOR)
            if follows:
                engine.set_lr(now.rates[group].lr)
        return now

    def clip(self, now: Phase, frames: list[Frames]) -> list[Chunk]:
        """The steps of a clip; several that are normalised together are one lane."""
        clip, found = clip_of(self.cfg, frames, self.grid.device), []
        n_frames = now.chunk_frames
        costs = None if self.grid.n_slots == 1 else count_costs(self.specs, clip.size.height, clip.size.width)
        assignment: dict[Site, int] = {}
        n_generated = len(frames[0].names) - self.cfg.generator.n_frames_G + 1
        for n_seen in range(0, n_generated - n_frames + 1, n_frames):
            shape = StepShape((LaneChunk(n_seen, n_frames),), n_frames_bp=now.n_frames_bp,
                              train_all_scales=self.trains_all_scales)
            tasks = step_tasks(self.specs, shape, whole_chunks=costs is None)
            plan = in_order(tasks, self.layout) if costs is None else make_plan(
                tasks, self.layout, costs, fixed=assignment)
            assignment = left_at(plan)
            part = LanePart(clip, n_frames, 1.0)
            frame = shown_kinds(self.cfg)[0]
            result = self.executor.step(plan, shape, [part], self.specs.active(shape.lanes[0]), Shown(0, (frame,)))
            advance(self.cfg, part)
            losses: dict[str, float] = defaultdict(float)
            for of_rank in self.grid.gather({name: float(x) for name, x in result.losses.items()}):
                for name, value in of_rank.items():
                    losses[name] += value
            fake = torch.stack([made[frame.what] for made in self.grid.from_first(result.shown)], dim=1).cpu()
            found.append(Chunk(losses | totals(losses), fake))
        return found

    def weights(self) -> dict[str, Tensor]:
        """Every tensor of every trained network under the original's name."""
        mine = {f"{_original_name(role)}.{name}": tensor.detach().to("cpu", copy=True)
                for role, engine in self.engines.items() for name, tensor in engine.module.state_dict().items()}
        return {name: tensor for of_rank in self.grid.gather(mine) for name, tensor in of_rank.items()}


def totals(losses: dict[str, float]) -> dict[str, float]:
    """What each optimiser minimised (spec: losses 4)."""
    generator = sum(v for k, v in losses.items() if k.startswith(("G_", "F_")) or k == "W")
    found = {
        "loss_G": generator,
        "loss_D": 0.5 * sum(losses.get(k, 0.0) for k in ("D_real", "D_fake", "D_f_real", "D_f_fake")),
    }
    scales = [k.removeprefix("D_T_real") for k in losses if k.startswith("D_T_real")]
    return found | {f"loss_D_T{s}": 0.5 * (losses[f"D_T_real{s}"] + losses[f"D_T_fake{s}"]) for s in scales}


def recorded_clips(cfg: Config, tensors: dict[str, Tensor], number: int) -> list[Frames]:
    """Batch `number` as the loader delivered it: a clip each."""
    def unstacked(name: str, channels: int) -> Tensor:
        return tensors[f"in.seq{number}.{name}"].unflatten(1, (-1, channels))

    labels = unstacked("A_u8", 1 if cfg.data.label_nc else cfg.data.input_nc)
    images, names = unstacked("B_u8", 3), [str(i) for i in range(labels.shape[1])]
    instances = unstacked("inst_u8", 1) if cfg.data.use_instance else None
    return [Frames(labels[i], images[i], None if instances is None else instances[i], names)
            for i in range(len(labels))]


def _original_name(role: str) -> str:
    return NAMES.get(role) or "D.netD_T" + role.removeprefix("temporal_")


def _check_losses(recorded: list[dict[str, float]], ours: Outcome, other: Outcome) -> list[Check]:
    checks = [Check("number of chunks", abs(len(recorded) - len(ours.chunks)), 0)]
    for i, (theirs, mine, twin) in enumerate(zip(recorded, ours.chunks, other.chunks, strict=False)):
        tolerance = max(RELATIVE, SPREAD * _worst_loss(mine.losses, twin.losses))
        checks.append(Check(f"losses of chunk {i}", _worst_loss(theirs, mine.losses), tolerance))
    return checks


def _worst_loss(a: dict[str, float], b: dict[str, float]) -> float:
    # Terms that a configuration does not have are 0 in the original's log and absent from ours.
    return max(abs(value - b.get(name, 0.0)) / max(abs(value), 1e-12) for name, value in a.items() if name != "L1")


def _check_frames(tensors: dict[str, Tensor], ours: Outcome, other: Outcome) -> list[Check]:
    checks = []
    for name, stored in tensors.items():
        if name.startswith("fake_B_f64run.chunk"):
            number, _, part = name.removeprefix("fake_B_f64run.chunk").partition("@")
            mine, twin = (o.chunks[int(number)].fake for o in (ours, other))
            tolerance = max(STORED, SPREAD * float((mine - twin).abs().max()))
            checks.append(Check(name, float((thin(mine, part) - stored).abs().max()), tolerance))
    return checks


def _check_weights(recorded: dict[str, Any], tensors: dict[str, Tensor], ours: Outcome, other: Outcome) -> list[Check]:
    counted = {
        name: stats
        for name, stats in recorded.items()
        if not stats.get("zero_gradient_bias_ignore") and not _is_statistic(name)
    }
    spread = max(_worst_stat(ours.stats[name], other.stats[name]) for name in counted)
    checks = [
        Check(name, _worst_stat(stats, ours.stats[name]), max(RELATIVE, SPREAD * spread))
        for name, stats in counted.items()
    ]
    for full_name, stored in tensors.items():
        name, _, part = full_name.removeprefix("final_f64run.").partition("@")
        if full_name.startswith("final_f64run.") and name in counted:
            mine, twin = ours.final[name], other.final[name]
            unit = float(stored.abs().max()) or 1.0
            tolerance = max(STORED, SPREAD * float((mine - twin).abs().max()) / unit)
            checks.append(Check(full_name, float((thin(mine, part) - stored).abs().max()) / unit, tolerance))
    return checks


def _worst_stat(a: dict[str, float], b: dict[str, float]) -> float:
    """Sums relative to the sum of magnitudes, the way travelled relative to its own length."""
    size = {
        "sum_f64": a["abs_sum_f64"],
        "abs_sum_f64": a["abs_sum_f64"],
        "l2_change_from_init_f64": max(a["l2_change_from_init_f64"], 1e-3),
    }
    return max(abs(a[key] - b[key]) / (size[key] or 1.0) for key in size)


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))
