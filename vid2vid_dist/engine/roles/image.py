"""The image discriminator: judges single frames given their labels, the blended and the purely synthesised ones."""

import torch
from torch import Tensor, nn

from vid2vid_dist.engine.plan.graph import LaneTasks
from vid2vid_dist.engine.plan.role import RateGroup
from vid2vid_dist.engine.plan.tasks import Kind, LaneChunk, NeededFrames, Site, Task
from vid2vid_dist.engine.plan.tensors import TensorKind
from vid2vid_dist.engine.roles.critic import Discriminator, Pass, Terms
from vid2vid_dist.engine.roles.kinds import judged_kinds
from vid2vid_dist.engine.run.tensor_store import TensorStore
from vid2vid_dist.models.discriminator import image_discriminator
from vid2vid_dist.models.labels import join_frames


class ImageRole(Discriminator):
    """Passes of `discriminator.frames_per_pass` frames, which are normalised together. They keep the labels
    (B x F, Ca, H, W)."""

    name, colour, rate, n_kinds = "image", "#f16913", RateGroup.DISCRIMINATOR, 2
    terms = Terms("G_GAN", "G_GAN_Feat", "D_real", "D_fake")
    kept_inputs = slice(3, None)  # labels, and what comes with them

    def add_tasks(self, lane: LaneTasks) -> None:
        for frames in lane.passes(self.cfg.discriminator.frames_per_pass):
            self.add_pass(lane, Site(self.name, lane.lane, frames[0]), frames, len(frames))

    def judged(self) -> list[TensorKind]:
        return judged_kinds(self.cfg)

    def needed_frames(self, task: Task, chunk: LaneChunk) -> NeededFrames:
        frames = frozenset(chunk.n_seen + t for t in task.frames) if task.kind == Kind.REAL else frozenset[int]()
        return NeededFrames(labels=frames, real=frames)

    def network(self) -> nn.Module:
        return image_discriminator(self.cfg)

    def real(self, task: Task, step: TensorStore) -> Pass | None:
        labels, real = pass_inputs(task, step)
        return self.see_real(torch.cat([labels, real], dim=1), labels)

    def fake(self, task: Task, step: TensorStore, judged: Pass, frames: list[Tensor]) -> list[Tensor]:
        return [torch.cat([judged.kept, x.flatten(0, 1)], dim=1) for x in frames]


def pass_inputs(task: Task, step: TensorStore) -> tuple[Tensor, Tensor]:
    """Labels (B x F, Ca, H, W) and real frames (B x F, 3, H, W) of a pass."""
    clip = step.lane(task.lane).clip
    labels = join_frames([clip.labels[step.frame(task, t)][-1] for t in task.frames]).dense()
    return labels.flatten(0, 1), step.real(task).flatten(0, 1)
