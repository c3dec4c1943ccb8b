"""Temporal discriminators judge groups of n_frames_D frames with the reference flow between them (spec: losses 5)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vid2vid_dist import losses
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.graph import LaneTasks
from vid2vid_dist.engine.plan.role import RateGroup
from vid2vid_dist.engine.plan.tasks import Kind, LaneChunk, NeededFrames, Site, Task
from vid2vid_dist.engine.plan.tensors import Part, image, reference
from vid2vid_dist.engine.roles.critic import Discriminator, Pass, Terms
from vid2vid_dist.engine.run.tensor_store import TensorStore
from vid2vid_dist.models.discriminator import temporal_discriminator
from vid2vid_dist.models.temporal import TemporalGroups, frames_kept, temporal_plan


def chunk_groups(cfg: Config, chunk: LaneChunk, scale: int) -> TemporalGroups:
    return temporal_plan(cfg.discriminator, chunk.n_seen, chunk.n_frames)[scale]


def group_passes(cfg: Config, chunk: LaneChunk, scale: int) -> dict[tuple[int, ...], TemporalGroups]:
    """The groups of a chunk that are judged together, by the generated frames in them, oldest first."""
    groups = chunk_groups(cfg, chunk, scale)
    size = cfg.discriminator.groups_per_pass or len(groups.frames) or 1
    passes = [TemporalGroups(groups.frames[i:i + size], groups.flow_pairs[i:i + size])
              for i in range(0, len(groups.frames), size)]
    by_frames = {tuple(sorted({i for group in one.frames for i in group if i >= 0})): one for one in passes}
    return dict(sorted(by_frames.items(), key=lambda item: item[0][-1]))


class TemporalRole(Discriminator):
    """One temporal scale, in passes of `discriminator.groups_per_pass` groups, which are normalised together. They and
    their flows (B x groups, n_frames_D - 1, 2, H, W) are kept."""

    colour, rate = "#807dba", RateGroup.TEMPORAL

    def __init__(self, cfg: Config, scale: int) -> None:
        self.name, self.scale = f"temporal_{scale}", scale
        self.terms = Terms(f"G_T_GAN{scale}", f"G_T_GAN_Feat{scale}", f"D_T_real{scale}", f"D_T_fake{scale}")
        self.colours = slice(0, 3 * cfg.discriminator.n_frames_D)
        super().__init__(cfg)

    def add_tasks(self, lane: LaneTasks) -> None:
        (kind,) = self.judged()
        passes = group_passes(self.cfg, lane.chunk, self.scale)
        n_groups = sum(len(groups.frames) for groups in passes.values())
        for frames, groups in passes.items():
            flows = [Part(reference(now - before), now) for pairs in groups.flow_pairs for now, before in pairs]
            earlier = sorted({i for group in groups.frames for i in group if i < 0})
            self.add_pass(lane, Site(self.name, lane.lane), frames, len(groups.frames), reads_real=flows,
                          earlier=[Part(kind, i) for i in earlier], fraction=len(groups.frames) / n_groups)

    def needed_next(self, lane: LaneTasks) -> Iterator[tuple[Part, Site]]:
        site, n_frames = Site(self.name, lane.lane), lane.chunk.n_frames
        n_kept = n_frames if lane.is_ahead else min(n_frames, frames_kept(
            self.cfg.discriminator, lane.chunk.n_seen + n_frames))
        for t in range(n_frames - n_kept, n_frames):
            yield Part(image(self.finest), t), site
            if self.scale == 0 or self.cfg.discriminator.sparse_D:
                yield Part(reference(), t), site
        for t, gap in self.needed_flow(lane.chunk) if lane.is_ahead else ():
            yield Part(reference(gap), t), site

    def needed_flow(self, chunk: LaneChunk) -> Iterator[tuple[int, int]]:
        """Between neighbours it is there; every group that skips frames needs its own."""
        for pairs in chunk_groups(self.cfg, chunk, self.scale).flow_pairs:
            yield from ((now, now - before) for now, before in pairs if now - before > 1)

    def needed_frames(self, task: Task, chunk: LaneChunk) -> NeededFrames:
        if task.kind != Kind.REAL:
            return NeededFrames()
        groups = group_passes(self.cfg, chunk, self.scale)[task.frames].frames
        return NeededFrames(real=frozenset(chunk.n_seen + i for group in groups for i in group))

    def is_active(self, chunk: LaneChunk) -> bool:
        return bool(chunk_groups(self.cfg, chunk, self.scale).frames)

    def network(self) -> nn.Module:
        return temporal_discriminator(self.cfg)

    def real(self, task: Task, step: TensorStore) -> Pass:
        clip, n_frames, _ = step.lane(task.lane)
        groups = group_passes(self.cfg, LaneChunk(clip.n_seen, n_frames), self.scale)[task.frames]
        flows = _grouped([[step.read(task, Part(reference(now - before), now))[:, :2] for now, before in pairs]
                          for pairs in groups.flow_pairs])
        real = _grouped([[clip.real[step.frame(task, i)] for i in group] for group in groups.frames])
        return self.see_real(losses.temporal_input(real, flows), (groups, flows))

    def fake(self, task: Task, step: TensorStore, judged: Pass, frames: list[Tensor]) -> list[Tensor]:
        (groups, flows), (kind,) = judged.kept, self.judged()
        new = dict(zip(task.frames, frames[0].unbind(1), strict=True))
        fake = _grouped([[new[i] if i >= 0 else step.read(task, Part(kind, i)) for i in group]
                         for group in groups.frames])
        return [losses.temporal_input(fake, flows)]


def _grouped(groups: list[list[Tensor]]) -> Tensor:
    """Tensors (B, C, H, W) of each group to (B x groups, members, C, H, W)."""
    return torch.stack([torch.stack(group, dim=1) for group in groups], dim=1).flatten(0, 1)
