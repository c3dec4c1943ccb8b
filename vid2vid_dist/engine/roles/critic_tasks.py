"""The tasks of the critics (discriminators and perceptual loss), and of the reference flow.

Gradients leave with their weight in the step's loss: the lane's part, over the frames that a mean runs over.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.messages import Part
from vid2vid_dist.engine.plan.tasks import Kind, Site, Task
from vid2vid_dist.engine.roles.discriminator_roles import ImageDiscriminatorRole, TemporalDiscriminatorRole
from vid2vid_dist.engine.roles.roles import CriticResult, FlowRole, PerceptualRole
from vid2vid_dist.engine.run.tensor_store import TaskTensors, TensorStore
from vid2vid_dist.models.labels import join_frames
from vid2vid_dist.models.temporal import TemporalGroups, frames_kept, temporal_plan


class ImageTasks:
    """Runs the image and face discriminator's passes."""

    def __init__(self, cfg: Config, role: ImageDiscriminatorRole, store: TensorStore) -> None:
        self.role, self.store = role, store
        self.image = f"image/{cfg.generator.n_scales_spatial - 1}"

    def run(self, task: Task) -> TaskTensors:
        lane, frames = self.store.lane(task.lane), [self.store.frame(task, t) for t in task.frames]
        weight = lane.share * len(frames) / lane.n_frames
        if task.kind == Kind.IMAGE_REAL:
            labels = join_frames([lane.buffer.labels[i][-1] for i in frames]).dense()
            real = torch.stack([lane.buffer.real[i] for i in frames], dim=1)
            self.store.sites[_site(task)] = self.role.see_real(labels, real)
        elif task.kind == Kind.IMAGE_FAKE:
            result = self.role.see_fake(self.store.sites[_site(task)], *_generated(self.store, task, self.image))
            return _hand_in(self.store, task, self.image, result.weighted(weight))
        else:
            assert task.kind == Kind.IMAGE_BACKWARD
            self.role.backward(self.store.sites.pop(_site(task)), weight)
        return {}


class PerceptualTasks:
    """Compares single frames."""

    def __init__(self, cfg: Config, role: PerceptualRole, store: TensorStore) -> None:
        self.role, self.store = role, store
        self.image = f"image/{cfg.generator.n_scales_spatial - 1}"

    def run(self, task: Task) -> TaskTensors:
        lane, (t,) = self.store.lane(task.lane), task.frames
        if task.kind == Kind.PERCEPTUAL_REAL:
            real = lane.buffer.real[self.store.frame(task, t)]
            self.store.sites[_site(task)] = self.role.see_real(real[:, None])
            return {}
        result = self.role.see_fake(self.store.sites.pop(_site(task)), *_generated(self.store, task, self.image))
        return _hand_in(self.store, task, self.image, result.weighted(lane.share / lane.n_frames))


class TemporalTasks:
    """Runs one temporal discriminator over the groups of a lane's chunk."""

    def __init__(self, cfg: Config, role: TemporalDiscriminatorRole, store: TensorStore) -> None:
        self.cfg, self.role, self.store = cfg, role, store
        self.image = f"image/{cfg.generator.n_scales_spatial - 1}"

    def run(self, task: Task) -> TaskTensors:
        if task.kind == Kind.TEMPORAL_REAL:
            return self.real(task)
        if task.kind == Kind.TEMPORAL_FAKE:
            return self.fake(task)
        assert task.kind == Kind.TEMPORAL_BACKWARD
        self.role.backward(self.store.sites.pop(_site(task)), self.store.lane(task.lane).share)
        return {}

    def real(self, task: Task) -> TaskTensors:
        lane = self.store.lane(task.lane)
        groups = chunk_groups(self.cfg, lane.buffer.n_seen, lane.n_frames, self.role.scale)
        kept = lane.buffer.carried.get(_site(task), {})
        flows: dict[int, Tensor] = {}  # by frame, or by the running number of the pair
        for read in self.store.reads(task):
            (index,) = read.producer.frames
            flows[index if groups.skips_frames else self.store.frame(task, index)] = read.tensor[:, :2]
        if groups.skips_frames:
            n_pairs = sum(map(len, groups.flow_pairs))
            start = lane.buffer.n_seen
            flat = [flows[i] if i in flows else kept.pop((f"skipped_flow/{i}", start)) for i in range(n_pairs)]
        else:
            flat = [flows[i] if i in flows else kept["reference", i][:, :2]
                    for pairs in groups.flow_pairs for i, _ in pairs]
        real = _grouped([lane.buffer.real[i] for group in groups.frames for i in group], len(groups.frames))
        self.store.sites[_site(task)] = self.role.see_real(real, _grouped(flat, len(groups.frames)))
        return {}

    def fake(self, task: Task) -> TaskTensors:
        lane = self.store.lane(task.lane)
        groups = chunk_groups(self.cfg, lane.buffer.n_seen, lane.n_frames, self.role.scale)
        new = {read.producer.frames[0]: read.tensor.detach().requires_grad_() for read in self.store.reads(task)}
        row = {i: x for (name, i), x in lane.buffer.carried.get(_site(task), {}).items() if name == self.image}
        row |= {self.store.frame(task, t): x for t, x in new.items()}
        fake = _grouped([row[i] for group in groups.frames for i in group], len(groups.frames))
        terms, gradients = self.role.see_fake(self.store.sites[_site(task)], fake, list(new.values()))
        self.store.add_losses({name: lane.share * term for name, term in terms.items()})
        weighted = [lane.share * gradient for gradient in gradients]
        self.store.add_squared_norm(task.role, CriticResult(fake=torch.stack(weighted)))
        return {Part(f"grad_{self.image}", t): x for t, x in zip(new, weighted, strict=True)}


class FlowTasks:
    """Gives reference flow; confidence goes with it as a third channel."""

    def __init__(self, cfg: Config, role: FlowRole, store: TensorStore) -> None:
        self.cfg, self.role, self.store = cfg, role, store

    def run(self, task: Task) -> TaskTensors:
        lane, (index,) = self.store.lane(task.lane), task.frames
        real = lane.buffer.real
        if task.kind == Kind.FLOW:
            frame = self.store.frame(task, index)
            reference = self.role.reference(real[frame], real[frame - 1])
            return {Part("reference"): torch.cat([reference.flow, reference.confidence], dim=1)}
        assert task.kind == Kind.SKIPPED_FLOW
        groups = chunk_groups(self.cfg, self.store.frame(task, 0), lane.n_frames, task.scale)
        now, before = [pair for pairs in groups.flow_pairs for pair in pairs][index]
        return {Part("skipped_flow"): self.role.reference(real[now], real[before]).flow}


def chunk_groups(cfg: Config, n_seen: int, n_frames: int, scale: int) -> TemporalGroups:
    """The groups of one temporal scale in a chunk, by frame from the start of the clip."""
    start = n_seen - frames_kept(cfg.discriminator, n_seen)
    groups = temporal_plan(cfg.discriminator, n_seen, n_frames).scales[scale]
    return TemporalGroups(
        tuple(tuple(start + i for i in group) for group in groups.frames),
        tuple(tuple((start + i, start + j) for i, j in pairs) for pairs in groups.flow_pairs))


def _grouped(tensors: list[Tensor], n_groups: int) -> Tensor:
    """Tensors (B, C, H, W) of all groups in a row to (B x groups, members, C, H, W)."""
    return torch.stack(tensors, dim=1).unflatten(1, (n_groups, -1)).flatten(0, 1)


def _generated(store: TensorStore, task: Task, image: str) -> tuple[Tensor, Tensor | None]:
    """The generated frames (B, F, 3, H, W) that a critic reads, and the purely synthesised ones if there are such."""
    found = {(read.producer.frames[0], read.name): read.tensor for read in store.reads(task)}
    fake = torch.stack([found[t, image] for t in task.frames], dim=1)
    has_raw = (task.frames[0], "raw") in found
    return fake, torch.stack([found[t, "raw"] for t in task.frames], dim=1) if has_raw else None


def _hand_in(store: TensorStore, task: Task, image: str, result: CriticResult) -> TaskTensors:
    """Note the losses of a pass; its gradients, frame by frame."""
    store.add_losses(result.losses)
    store.add_squared_norm(task.role, result)
    made: TaskTensors = {}
    for name, gradient in ((image, result.fake), ("raw", result.raw)):
        if gradient is not None:
            made |= {Part(f"grad_{name}", t): gradient[:, i] for i, t in enumerate(task.frames)}
    return made


def _site(task: Task) -> Site:
    assert task.site is not None
    return task.site
