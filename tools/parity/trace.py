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
from vid2vid_dist.engine.build import build_generator_role, build_modules
from vid2vid_dist.engine.grid import Grid, solo_grid
from vid2vid_dist.engine.lane import Chunk as LaneChunk
from vid2vid_dist.engine.lane import Lane
from vid2vid_dist.engine.optimizer import AdamSettings, build_engine
from vid2vid_dist.engine.roles import (
    FlowRole,
    ImageDiscriminatorRole,
    PerceptualRole,
    TemporalDiscriminatorRole,
)
from vid2vid_dist.engine.step import LaneWork, Roles, StepResult, active_roles, train_step
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.flow import FlowReference
from vid2vid_dist.models.perceptual import VGG19Features
from vid2vid_dist.training.curriculum import Phase, phase

RELATIVE = 1e-9  # of float64 losses and sums of weights
STORED = 2e-7  # stored float64 results were rounded to float32
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


Step = Callable[[Roles, list[LaneWork], list[str], int, bool], StepResult]


def check(case: Case) -> list[Check]:
    cfg = config_from_options(case.options)
    cfg.optim.precision, cfg.optim.backend = "fp64", "plain"
    tensors = case.tensors()
    roles = build_trace_roles(cfg, tensors, solo_grid())
    initial = weights(roles)
    chunks = run(cfg, roles, case.meta, tensors)
    return [*_check_losses(case.meta, chunks), *_check_frames(tensors, chunks),
            *_check_weights(case.meta, tensors, initial, weights(roles))]


def build_trace_roles(cfg: Config, tensors: dict[str, Tensor], grid: Grid) -> Roles:
    """All roles with the stored weights, in the configuration's precision, the stand-in as reference flow."""
    now, modules = phase(cfg, 1, VIDEO), build_modules(cfg)
    for role, module in modules.items():
        prefix = f"sd.{_original_name(role)}."
        module.double().load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    discriminator = AdamSettings(now.lr_discriminator, now.beta1_discriminator)
    temporal = AdamSettings(now.lr_temporal, cfg.optim.beta1)
    return Roles(
        generator=build_generator_role(cfg, grid, modules["generator"],
                                       AdamSettings(now.lr_generator, now.beta1_generator), now.train_all_scales),
        image=ImageDiscriminatorRole(
            cfg, build_engine(modules["image"], discriminator, cfg.optim, grid),
            build_engine(modules["face"], discriminator, cfg.optim, grid) if "face" in modules else None),
        temporal=[TemporalDiscriminatorRole(cfg, build_engine(modules[f"temporal_{s}"], temporal, cfg.optim, grid), s)
                  for s in range(cfg.discriminator.n_scales_temporal)],
        flow=FlowRole(cfg, StandInFlow()),
        perceptual=None if cfg.loss.no_vgg else PerceptualRole(cfg, random_vgg19().double()),
    )


def random_vgg19() -> VGG19Features:
    """The untrained VGG19 of the golden runs."""
    torch.manual_seed(0)
    return VGG19Features(models.vgg19(weights=None).features)


def run(cfg: Config, roles: Roles, meta: dict[str, Any], tensors: dict[str, Tensor], step: Step = train_step) -> list[Chunk]:
    """All clips of the trace in their order, epoch by epoch."""
    chunks, epoch = [], 1
    now = phase(cfg, epoch, VIDEO)
    for event in meta["events"]:
        if event["type"] == "end_of_epoch":
            epoch += 1
            now = _next_phase(cfg, roles, epoch, event)
        else:
            frames = _frames(cfg, tensors, event["iter"])
            chunks += _run_clip(cfg, roles, now, frames, step)
    return chunks


def _next_phase(cfg: Config, roles: Roles, epoch: int, event: dict[str, Any]) -> Phase:
    now = phase(cfg, epoch, VIDEO)
    engines = roles.engines()
    # Past the finest-only epochs the original kept stepping its first optimiser, at the rate that it had then
    # (spec: quirks Q3). Our trainer does what was meant; here the recorded behaviour is followed.
    if event["modelG_optimizer_is_the_loop_optimizer"]:
        engines["generator"].set_lr(now.lr_generator)
    for name in ("image", "face"):
        if name in engines:
            engines[name].set_lr(now.lr_discriminator)
    return now


def _run_clip(cfg: Config, roles: Roles, now: Phase, frames: Frames, step: Step) -> list[Chunk]:
    lane, n_past, chunks = RecordedLane(cfg, torch.device("cpu"), torch.float64), cfg.generator.n_frames_G - 1, []
    for start in range(0, len(frames.names) - n_past - now.chunk_frames + 1, now.chunk_frames):
        first = start + (n_past if start else 0)
        chunk = lane.feed([_cut(frames, first, start + n_past + now.chunk_frames)])
        active = active_roles(roles, lane.n_seen, now.chunk_frames)
        result = step(roles, [LaneWork(lane, chunk, 1.0)], active, now.n_frames_bp, not now.train_all_scales)
        losses = {name: float(value) for name, value in result.losses.items()}
        assert result.last is not None
        chunks.append(Chunk(losses | totals(losses), result.last.generated.fake))
    return chunks


def totals(losses: dict[str, float]) -> dict[str, float]:
    """What each optimiser minimised (spec: losses 4)."""
    generator = sum(v for k, v in losses.items() if k.startswith(("G_", "F_")) or k == "W")
    found = {"loss_G": generator, "loss_D": 0.5 * sum(losses.get(k, 0.0) for k in ("D_real", "D_fake", "D_f_real", "D_f_fake"))}
    scales = [k.removeprefix("D_T_real") for k in losses if k.startswith("D_T_real")]
    return found | {f"loss_D_T{s}": 0.5 * (losses[f"D_T_real{s}"] + losses[f"D_T_fake{s}"]) for s in scales}


def _frames(cfg: Config, tensors: dict[str, Tensor], number: int) -> Frames:
    """Clip `number` as the loader delivered it."""
    def unstacked(name: str, channels: int) -> Tensor:
        return tensors[f"in.seq{number}.{name}"][0].unflatten(0, (-1, channels))

    labels = unstacked("A_u8", 1 if cfg.data.label_nc else cfg.data.input_nc)
    instances = unstacked("inst_u8", 1) if cfg.data.use_instance else None
    return Frames(labels, unstacked("B_u8", 3), instances, [str(i) for i in range(len(labels))])


def _cut(frames: Frames, first: int, end: int) -> Frames:
    these = slice(first, end)
    assert frames.images is not None
    return Frames(frames.labels[these], frames.images[these],
                  None if frames.instances is None else frames.instances[these], frames.names[these])


def _original_name(role: str) -> str:
    return NAMES.get(role) or "D.netD_T" + role.removeprefix("temporal_")


def weights(roles: Roles) -> dict[str, Tensor]:
    """Every tensor of every trained network under the original's name."""
    return {f"{_original_name(role)}.{name}": tensor.detach().clone()
            for role, engine in roles.engines().items() for name, tensor in engine.module.state_dict().items()}


def _check_losses(meta: dict[str, Any], chunks: list[Chunk]) -> list[Check]:
    recorded = [chunk["losses_f64"] for chunk in meta["chunks"]]
    checks = [Check("number of chunks", abs(len(recorded) - len(chunks)), 0)]
    for i, (theirs, ours) in enumerate(zip(recorded, chunks, strict=False)):
        # Terms that a configuration does not have are 0 in the original's log and absent from ours.
        errors = [abs(value - ours.losses.get(name, 0.0)) / max(abs(value), 1e-12) for name, value in theirs.items()]
        checks.append(Check(f"losses of chunk {i}", max(errors), RELATIVE))
    return checks


def _check_frames(tensors: dict[str, Tensor], chunks: list[Chunk]) -> list[Check]:
    checks = []
    for name, stored in tensors.items():
        if name.startswith("fake_B_f64run.chunk"):
            number, _, part = name.removeprefix("fake_B_f64run.chunk").partition("@")
            difference = thin(chunks[int(number)].fake, part) - stored
            checks.append(Check(name, float(difference.abs().max()), STORED))
    return checks


def _check_weights(meta: dict[str, Any], tensors: dict[str, Tensor], initial: dict[str, Tensor],
                   final: dict[str, Tensor]) -> list[Check]:
    checks = []
    for name, stats in meta["final_param_stats"].items():
        ours = final[name].double()
        if stats.get("zero_gradient_bias_ignore") or _is_statistic(name):
            continue
        scale = max(stats["abs_sum_f64"], 1e-12)
        error = max(abs(float(ours.sum()) - stats["sum_f64"]), abs(float(ours.abs().sum()) - stats["abs_sum_f64"])) / scale
        moved = abs(float((ours - initial[name].double()).norm()) - stats["l2_change_from_init_f64"])
        checks.append(Check(name, max(error, moved / max(stats["l2_change_from_init_f64"], 1e-3)), RELATIVE))
    for full_name, stored in tensors.items():
        if full_name.startswith("final_f64run."):
            name, _, part = full_name.removeprefix("final_f64run.").partition("@")
            if _is_statistic(name) or meta["final_param_stats"][name].get("zero_gradient_bias_ignore"):
                continue
            error = float((thin(final[name], part) - stored).abs().max() / stored.abs().max().clamp(min=1e-12))
            checks.append(Check(full_name, error, STORED))
    return checks


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))
