"""The perceptual loss: compares frames with the real ones by the features of a frozen VGG19 (spec: losses 3.3)."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vid2vid_dist import losses
from vid2vid_dist.engine.plan.counting import backward, measure, n_parameters
from vid2vid_dist.engine.plan.graph import LaneTasks
from vid2vid_dist.engine.plan.role import Counted, Loss, Resolution, RoleSpec
from vid2vid_dist.engine.plan.tasks import Kind, LaneChunk, NeededFrames, Site, Task
from vid2vid_dist.engine.plan.tensors import Part
from vid2vid_dist.engine.roles.kinds import judged_kinds
from vid2vid_dist.engine.run.tensor_store import TaskTensors, TensorStore
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.perceptual import VGG19Features, load_vgg19
from vid2vid_dist.models.precision import DTYPES

LOSS = Loss("G_VGG")


class PerceptualRole(RoleSpec):
    """Frames are compared one by one; nothing is normalised over them."""

    name, colour, losses = "perceptual", "#41ab5d", (LOSS,)

    def add_tasks(self, lane: LaneTasks) -> None:
        for frames in lane.free_passes():
            site = Site(self.name, lane.lane, frames[0])
            judged = [Part(kind, t) for kind in judged_kinds(self.cfg) for t in frames]
            lane.add(Kind.REAL, site, frames, units=len(frames))
            lane.add(Kind.FAKE, site, frames, units=len(frames), reads=judged,
                     makes=[part.gradient for part in judged])

    def needed_frames(self, task: Task, chunk: LaneChunk) -> NeededFrames:
        return NeededFrames(real=frozenset(chunk.n_seen + t for t in task.frames if task.kind == Kind.REAL))

    def count(self, resolution: Resolution) -> Counted:
        vgg = VGG19Features(models.vgg.make_layers(models.vgg.cfgs["E"], batch_norm=False)).to(resolution.dtype)
        frame = torch.empty(1, 3, resolution.height, resolution.width, dtype=resolution.dtype)
        with torch.no_grad():
            real, of_real = measure(vgg, vgg, frame)
        forward, features = measure(vgg, vgg, frame.clone().requires_grad_())
        of_fake, _ = measure(vgg, backward, features)
        return Counted({(Kind.REAL, 0): replace(real, saved=float(sum(x.nbytes for x in of_real))),
                        (Kind.FAKE, 0): len(judged_kinds(self.cfg)) * (forward + of_fake)}, n_frozen=n_parameters(vgg))

    def network(self) -> nn.Module:
        """Raises `UserError` without a usable file of weights."""
        return load_vgg19(self.cfg.loss.vgg_weights)

    def at_work(self, module: nn.Module | None, engine: Any = None) -> Any:
        return super().at_work(None if module is None else module.to(DTYPES[self.cfg.optim.precision]))

    def run(self, task: Task, step: TensorStore) -> TaskTensors:
        if task.kind == Kind.REAL:
            with torch.no_grad():
                step.sites[task.site] = self.module(step.real(task).flatten(0, 1))
            return {}
        of_real: list[Tensor] = step.sites.pop(task.site)
        kinds = judged_kinds(self.cfg)
        frames = [step.stack(task, kind).requires_grad_() for kind in kinds]
        distances = [losses.perceptual_distance(self.module(x.flatten(0, 1)), of_real) for x in frames]
        # Without flow the purely synthesised frame is the frame: it counts twice.
        loss = self.cfg.loss.lambda_feat * (distances[0] + distances[-1])
        found = torch.autograd.grad(loss, frames)
        return step.hand_in(task, {LOSS.name: loss}, dict(zip(kinds, found, strict=True)))
