"""One training step: what every role does to one chunk of every lane, and the updates that follow.

All losses of a step use the weights from before it: every role accumulates gradients over the lanes, and only
then do all of them step.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.roles.discriminator_roles import ImageDiscriminatorRole, TemporalDiscriminatorRole
from vid2vid_dist.engine.roles.roles import CriticResult, FlowRole, GeneratorRole, PerceptualRole
from vid2vid_dist.engine.run.finite_check import MayUpdate, always, find_nonfinite
from vid2vid_dist.engine.run.lane import Chunk, Lane
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.losses import l1
from vid2vid_dist.models.flow import FlowReference
from vid2vid_dist.models.generator import GeneratedChunk
from vid2vid_dist.models.temporal import temporal_plan


@dataclass
class Roles:
    """Everybody who takes part in a step."""

    generator: GeneratorRole
    image: ImageDiscriminatorRole
    temporal: list[TemporalDiscriminatorRole]  # by temporal scale
    flow: FlowRole
    perceptual: PerceptualRole | None

    def engines(self) -> dict[str, RoleEngine]:
        """Every trained role by name, in the order in which they step."""
        found = {"generator": self.generator.engine, "image": self.image.engine}
        if self.image.face_engine is not None:
            found["face"] = self.image.face_engine
        return found | {f"temporal_{role.scale}": role.engine for role in self.temporal}


@dataclass
class LaneWork:
    """One lane's part in a step: its chunk, and the lane's clips over all clips of the step."""

    lane: Lane
    chunk: Chunk
    share: float


@dataclass(frozen=True)
class ShownLane:
    """What one lane saw and made in a step, without gradients, for pictures."""

    chunk: Chunk
    generated: GeneratedChunk
    reference: FlowReference


def unpack_shown(chunk: Chunk, frames: list[Tensor]) -> ShownLane:
    """From the planes of a chunk's frames, as pictures are collected from other ranks (`TensorStore.shown`)."""
    planes = torch.stack(frames, dim=1)
    if planes.shape[2] == 9:
        fake, raw, flow_ref, conf = planes.split((3, 3, 2, 1), dim=2)
        return ShownLane(chunk, GeneratedChunk(fake, raw, None, None, []), FlowReference(flow_ref, conf))
    fake, raw, flow, weight, flow_ref, conf = planes.split((3, 3, 2, 1, 2, 1), dim=2)
    return ShownLane(chunk, GeneratedChunk(fake, raw, flow, weight, []), FlowReference(flow_ref, conf))


@dataclass
class StepResult:
    """Losses of this rank's lanes, weighted by their shares: summed over the ranks they are means over clips."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    last: ShownLane | None = None  # of this rank's last lane
    updated: bool = True  # False: the weights are as before
    squared_norms: dict[str, Tensor] = field(default_factory=dict)  # by critic, of their weighted gradients to frames


def train_step(
    roles: Roles, work: list[LaneWork], active: list[str], n_frames_bp: int, detach_coarse: bool,
    may_update: MayUpdate = always,
) -> StepResult:
    """Run one step. `active` names the trained roles that have something to compute in it, the same on all ranks.

    A rank without work (its lanes rest) still takes part in the reductions.
    """
    result = StepResult()
    engines = {name: engine for name, engine in roles.engines().items() if name in active}
    with ExitStack() as accumulating:
        for engine in engines.values():
            accumulating.enter_context(engine.accumulate())
        for item in work:
            generated = roles.generator.generate(item.chunk, item.lane.history, n_frames_bp, detach_coarse)
            with torch.no_grad():
                reference = roles.flow.reference(item.chunk.real, item.chunk.real_prev)
            critics = run_critics(roles, item, generated, reference)
            roles.generator.backward(generated, critics, item.share)
            for name, loss in critics.losses.items():
                result.losses[name] = result.losses.get(name, loss.new_zeros(())) + item.share * loss
            for name, norm in critics.squared_norms.items():
                known = result.squared_norms.get(name, norm.new_zeros(()))
                result.squared_norms[name] = known + item.share**2 * norm
            result.last = ShownLane(item.chunk, generated.detach(), reference)
    result.updated = may_update(find_nonfinite(engines, result.losses))
    for engine in engines.values():
        engine.step() if result.updated else engine.discard()
    return result


def run_critics(roles: Roles, item: LaneWork, generated: GeneratedChunk, reference: FlowReference) -> CriticResult:
    """Every critic's losses and gradients for one lane's chunk; the discriminators accumulate their own gradients."""
    lane, chunk, share = item.lane, item.chunk, item.share
    critics = CriticResult()
    critics.add("image", roles.image.evaluate(chunk, generated, share))
    if roles.perceptual is not None:
        critics.add("perceptual", roles.perceptual.evaluate(chunk, generated))
    critics.add("warp", roles.flow.evaluate(chunk, generated, lane.previous_fake(chunk, generated.fake), reference))
    row = lane.temporal_row(chunk, reference.flow)
    for role in roles.temporal:
        if row.plan.scales[role.scale].frames:
            critics.add(f"temporal_{role.scale}", role.evaluate(row, generated, roles.flow, share))
    lane.keep(generated, row)
    critics.losses["L1"] = l1(generated.fake.detach(), chunk.real)
    return critics


def active_roles(cfg: Config, n_seen: int, chunk_frames: int) -> list[str]:
    """Names of the trained roles that take part in a step whose lanes have generated `n_seen` frames each."""
    disc = cfg.discriminator
    plan = temporal_plan(disc, n_seen, chunk_frames)
    names = ["generator", "image", *(["face"] if disc.add_face_disc else [])]
    return names + [f"temporal_{s}" for s, groups in enumerate(plan.scales) if groups.frames]
