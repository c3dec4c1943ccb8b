"""The face discriminator: judges the face that the labels mark in a frame, cut out (spec: losses 3.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vid2vid_dist import losses
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.role import Counted, Resolution
from vid2vid_dist.engine.plan.tasks import Kind, Task
from vid2vid_dist.engine.plan.tensors import TensorKind, image
from vid2vid_dist.engine.roles.critic import Discriminator, Pass, Terms, count_discriminator
from vid2vid_dist.engine.roles.image import ImageSpec, pass_inputs
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.tensor_store import TaskTensors, TensorStore
from vid2vid_dist.models.discriminator import face_discriminator

TERMS = Terms("G_f_GAN", "G_f_GAN_Feat", "D_f_real", "D_f_fake")


class FaceSpec(ImageSpec):
    """One crop for all frames of a pass; passes as of the image discriminator."""

    name, colour, losses = "face", "#d94801", TERMS.losses()

    def judged(self) -> list[TensorKind]:
        return [image(self.finest)]

    def count(self, resolution: Resolution) -> Counted:
        side = losses.face_side(self.cfg.data.fineSize)
        return count_discriminator(self.network().to(resolution.dtype), side, side, resolution.dtype)

    def network(self) -> nn.Module:
        return face_discriminator(self.cfg)

    def at_work(self, network: nn.Module, engine: RoleEngine) -> FaceRole:
        return FaceRole(self.cfg, engine)


@dataclass
class FacePass:
    """What the tasks of a pass share: the crop, its labels (B x F, Ca, h, w), and the discriminator's part."""

    box: losses.Box
    labels: Tensor
    judged: Pass


class FaceRole:
    """The face discriminator at work. Where no face is seen it has nothing to say."""

    def __init__(self, cfg: Config, engine: RoleEngine) -> None:
        self.cfg, self.engine = cfg, engine
        self.discriminator = Discriminator(cfg, engine, TERMS, losses.FACE_WEIGHT)
        self.tally = self.discriminator.tally

    def run(self, task: Task, step: TensorStore) -> TaskTensors:
        if task.kind == Kind.REAL:
            labels, real = pass_inputs(task, step)
            of_clip = step.lane(task.lane).clip.labels
            faces = [face for t in task.frames for face in of_clip[step.frame(task, t)][-1].faces]
            box = losses.box_around(faces, labels.shape[-2:], self.cfg.data.fineSize)
            if box is not None:
                crop = box.crop(labels)
                judged = self.discriminator.see_real(torch.cat([crop, box.crop(real)], dim=1))
                step.sites[task.site] = FacePass(box, crop, judged)
            return {}
        if task.kind == Kind.CRITIC_BACKWARD:
            if task.site in step.sites:
                self.discriminator.backward(step.sites.pop(task.site).judged, step.weight(task))
            return {}
        kind = image(self.cfg.generator.n_scales_spatial - 1)
        frames = step.stack(task, kind).requires_grad_()
        shared: FacePass | None = step.sites.get(task.site)
        if shared is None:
            nothing = frames.new_zeros(())
            return step.hand_in(task, {loss.name: nothing for loss in TERMS.losses()}, {kind: torch.zeros_like(frames)})
        crop = torch.cat([shared.labels, shared.box.crop(frames.flatten(0, 1))], dim=1)
        terms, (found,) = self.discriminator.see_fake(shared.judged, [crop], [frames])
        return step.hand_in(task, terms, {kind: found})
