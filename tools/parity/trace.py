"""Whole training runs of the original, in float64: losses of every chunk, frames, weights at the end.

Two slips of the original are part of its numbers; our trainer does what was meant, and only this module follows
the record: `RecordedLane` and the optimiser that is not replaced in `_next_phase`.

Running statistics are left out. No output depends on them, the discriminators' count forward passes (ours makes
one over the real frames instead of two), and the means contain the biases that have no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tools.parity.case import Case, Check
from tools.parity.compare import thin
from tools.parity.options import config_from_options
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.roles.build import FrozenNetworks, build_modules, build_roles
from vid2vid_dist.engine.run.executor import HeldRoles
from vid2vid_dist.engine.run.grid import Grid, solo_grid
from vid2vid_dist.engine.run.lane import Chunk as LaneChunk
from vid2vid_dist.engine.run.lane import Lane
from vid2vid_dist.engine.run.step import LaneWork, Roles, StepResult, active_roles, train_step
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.flow import FlowReference
from vid2vid_dist.models.perceptual import VGG19Features
from vid2vid_dist.training.curriculum import Phase, phase
from vid2vid_dist.training.state import optimizers

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


class RecordedLane(Lane):
    """Past the first chunk, the frame "before" a chunk is the chunk's own last one: called without its wrapper,
    the original's generator appends to the list that it was given (spec: quirks Q14, Q15)."""

    def previous_fake(self, chunk: LaneChunk, fake: Tensor) -> Tensor:
        if chunk.is_first:
            return super().previous_fake(chunk, fake)
        return fake.roll(1, dims=1).detach()


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


Step = Callable[[Any, list[LaneWork], list[str], int, bool], StepResult]


def check(case: Case) -> list[Check]:
    cfg = config_from_options(case.options)
    cfg.optim.precision, cfg.optim.backend = "fp64", "plain"
    tensors = case.tensors()
    ours = train(cfg, case.meta, tensors)
    return compare(case, ours, spread(cfg, case.meta, tensors) or ours)


def spread(cfg: Config, meta: dict[str, Any], tensors: dict[str, Tensor]) -> Outcome | None:
    """Another run of ours, for how far runs may part; None where they may not.

    From an all-zero first image, every norm layer divides rounding noise by sqrt(1e-5), in float64 too: other
    vector instructions give another run. How far such runs part is measured here, not assumed.
    """
    return train(cfg, meta, tensors, nudge=2.0**-52) if cfg.generator.no_first_img else None


def compare(case: Case, ours: Outcome, other: Outcome) -> list[Check]:
    """Our run against the record, as far as two runs of ours agree."""
    tensors = case.tensors()
    return [
        *_check_losses([chunk["losses_f64"] for chunk in case.meta["chunks"]], ours, other),
        *_check_frames(tensors, ours, other),
        *_check_weights(case.meta["final_param_stats"], tensors, ours, other),
    ]


def train(cfg: Config, meta: dict[str, Any], tensors: dict[str, Tensor], nudge: float = 0.0) -> Outcome:
    """Our run of the trace; `nudge` scales the generator's first weights by 1 + nudge."""
    roles = build_trace_roles(cfg, tensors, solo_grid())
    for p in roles.generator.module.parameters():
        p.data.mul_(1 + nudge)
    initial = weights(roles)
    chunks = run(cfg, roles, meta, tensors)
    return outcome(chunks, initial, weights(roles))


def outcome(chunks: list[Chunk], initial: dict[str, Tensor], final: dict[str, Tensor]) -> Outcome:
    return Outcome(chunks, final, {name: _stats(initial[name], final[name]) for name in final})


def _stats(before: Tensor, after: Tensor) -> dict[str, float]:
    return {
        "sum_f64": float(after.sum()),
        "abs_sum_f64": float(after.abs().sum()),
        "l2_change_from_init_f64": float((after.double() - before.double()).norm()),
    }


def build_trace_roles(cfg: Config, tensors: dict[str, Tensor], grid: Grid) -> Roles:
    """All roles with the stored weights, in the configuration's precision, the stand-in as reference flow."""
    now = phase(cfg, 1, VIDEO)
    return build_roles(cfg, grid, stored_modules(cfg, tensors), stand_ins(cfg), optimizers(cfg, now),
                       now.train_all_scales)


def stored_modules(cfg: Config, tensors: dict[str, Tensor]) -> dict[str, torch.nn.Module]:
    """The trained networks with the stored weights, in float64."""
    modules = build_modules(cfg)
    for role, module in modules.items():
        prefix = f"sd.{_original_name(role)}."
        module.double().load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return modules


def stand_ins(cfg: Config) -> FrozenNetworks:
    """What the golden runs had in place of FlowNet2 and the trained VGG19."""
    return FrozenNetworks(StandInFlow(), None if cfg.loss.no_vgg else random_vgg19())


def random_vgg19() -> VGG19Features:
    """The untrained VGG19 of the golden runs."""
    torch.manual_seed(0)
    return VGG19Features(models.vgg19(weights=None).features)


def run(
    cfg: Config, roles: Roles | HeldRoles, meta: dict[str, Any], tensors: dict[str, Tensor], step: Step = train_step
) -> list[Chunk]:
    """All clips of the trace in their order, epoch by epoch."""
    chunks, epoch = [], 1
    now = phase(cfg, epoch, VIDEO)
    for event in meta["events"]:
        if event["type"] == "end_of_epoch":
            epoch += 1
            now = _next_phase(cfg, roles, epoch, event)
        else:
            lane = RecordedLane(cfg, torch.device("cpu"), torch.float64)
            chunks += _run_clip(cfg, lane, roles, now, recorded_clips(cfg, tensors, event["iter"]), step)
    return chunks


def _next_phase(cfg: Config, roles: Roles | HeldRoles, epoch: int, event: dict[str, Any]) -> Phase:
    now = phase(cfg, epoch, VIDEO)
    engines = roles.engines()
    # Past the finest-only epochs the original kept stepping its first optimiser, at the rate that it had then
    # (spec: quirks Q3). Our trainer does what was meant; here the recorded behaviour is followed.
    rates = {"image": now.lr_discriminator, "face": now.lr_discriminator}
    if event["modelG_optimizer_is_the_loop_optimizer"]:
        rates["generator"] = now.lr_generator
    for name in rates.keys() & engines.keys():
        engines[name].set_lr(rates[name])
    return now


def _run_clip(cfg: Config, lane: Lane, roles: Roles | HeldRoles, now: Phase, clips: list[Frames],
              step: Step) -> list[Chunk]:
    n_past, chunks = cfg.generator.n_frames_G - 1, []
    for start in range(0, len(clips[0].names) - n_past - now.chunk_frames + 1, now.chunk_frames):
        first = start + (n_past if start else 0)
        chunk = lane.feed([_cut(frames, first, start + n_past + now.chunk_frames) for frames in clips])
        active = active_roles(cfg, lane.n_seen, now.chunk_frames)
        result = step(roles, [LaneWork(lane, chunk, 1.0)], active, now.n_frames_bp, not now.train_all_scales)
        losses = {name: float(value) for name, value in result.losses.items()}
        assert result.last is not None
        chunks.append(Chunk(losses | totals(losses), result.last.generated.fake))
    return chunks


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
    """The clips of batch `number` as the loader delivered them, whole ones."""

    def unstacked(name: str, channels: int) -> Tensor:
        return tensors[f"in.seq{number}.{name}"].unflatten(1, (-1, channels))

    labels, images = unstacked("A_u8", 1 if cfg.data.label_nc else cfg.data.input_nc), unstacked("B_u8", 3)
    instances = unstacked("inst_u8", 1) if cfg.data.use_instance else [None] * len(labels)
    return [Frames(a, b, i, [str(t) for t in range(len(a))]) for a, b, i in zip(labels, images, instances, strict=True)]


def _cut(frames: Frames, first: int, end: int) -> Frames:
    these = slice(first, end)
    assert frames.images is not None
    return Frames(
        frames.labels[these],
        frames.images[these],
        None if frames.instances is None else frames.instances[these],
        frames.names[these],
    )


def _original_name(role: str) -> str:
    return NAMES.get(role) or "D.netD_T" + role.removeprefix("temporal_")


def weights(roles: Roles | HeldRoles) -> dict[str, Tensor]:
    """Every tensor of every trained network under the original's name."""
    return {
        f"{_original_name(role)}.{name}": tensor.detach().clone()
        for role, engine in roles.engines().items()
        for name, tensor in engine.module.state_dict().items()
    }


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
