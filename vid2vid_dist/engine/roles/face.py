"""The face discriminator: judges the face that the labels mark in a frame, cut out (spec: losses 3.5)."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from vid2vid_dist import losses
from vid2vid_dist.engine.plan.role import Counted, Resolution
from vid2vid_dist.engine.plan.tasks import Task
from vid2vid_dist.engine.plan.tensors import TensorKind, image
from vid2vid_dist.engine.roles.critic import Pass, Terms
from vid2vid_dist.engine.roles.image import ImageRole, pass_inputs
from vid2vid_dist.engine.run.tensor_store import TensorStore
from vid2vid_dist.models.discriminator import face_discriminator


class FaceRole(ImageRole):
    """One crop for all frames of a pass; passes as of the image discriminator. They keep the crop and its labels
    (B x F, Ca, h, w); where no face is seen there is none."""

    name, colour, n_kinds, kept_inputs, weight = "face", "#d94801", 1, slice(0), losses.FACE_WEIGHT
    terms = Terms("G_f_GAN", "G_f_GAN_Feat", "D_f_real", "D_f_fake")

    def judged(self) -> list[TensorKind]:
        return [image(self.finest)]

    def count(self, resolution: Resolution) -> Counted:
        side = losses.face_side(self.cfg.data.fineSize)
        return super().count(replace(resolution, height=side, width=side))

    def network(self) -> nn.Module:
        return face_discriminator(self.cfg)

    def real(self, task: Task, step: TensorStore) -> Pass | None:
        labels, real = pass_inputs(task, step)
        of_clip = step.lane(task.lane).clip.labels
        faces = [face for t in task.frames for face in of_clip[step.frame(task, t)][-1].faces]
        box = losses.box_around(faces, labels.shape[-2:], self.cfg.data.fineSize)
        if box is None:
            return None
        cropped = box.crop(labels)
        return self.see_real(torch.cat([cropped, box.crop(real)], dim=1), (box, cropped))

    def fake(self, task: Task, step: TensorStore, judged: Pass, frames: list[Tensor]) -> list[Tensor]:
        box, labels = judged.kept
        return [torch.cat([labels, box.crop(x.flatten(0, 1))], dim=1) for x in frames]
