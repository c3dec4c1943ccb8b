"""The generator's tasks: one frame at one scale, forward and backward, from tensors of other frames and scales.

Every frame and scale has a graph of its own. What it reads of others enters as leaves, whose gradients are
handed back by its backward pass; so it does not matter on which rank the others are.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.messages import Part
from vid2vid_dist.engine.plan.tasks import Kind, Site, StepShape, Task
from vid2vid_dist.engine.roles.roles import CriticResult, GeneratorRole, RealPair, evaluate_flow
from vid2vid_dist.engine.run.tensor_store import Read, TaskTensors, TensorStore
from vid2vid_dist.losses import l1
from vid2vid_dist.models.composite import Features, Foreground, ScaleOutput
from vid2vid_dist.models.flow import FlowReference
from vid2vid_dist.models.labels import EncodedLabels, foreground_mask


@dataclass
class FrameGraph:
    """A frame at one scale between its forward and its backward pass; inputs are leaves."""

    label_features: Tensor
    history: dict[int, Tensor] = field(default_factory=dict)  # by frame of the chunk
    coarse: Features | None = None
    out: ScaleOutput | None = None
    result: CriticResult = field(default_factory=CriticResult)  # of the flow losses


@dataclass
class ForegroundGraph:
    """The foreground branch of a frame at one scale, likewise."""

    coarse: Tensor | None  # features of the coarser scale
    mask: Tensor  # (B, 1, h, w)
    made: Foreground


class FrameTasks:
    """Runs the generator's tasks of one step."""

    def __init__(self, cfg: Config, role: GeneratorRole, shape: StepShape, store: TensorStore) -> None:
        self.cfg, self.role, self.shape, self.store = cfg, role, shape, store
        self.n_past = cfg.generator.n_frames_G - 1
        self.finest = cfg.generator.n_scales_spatial - 1

    def run(self, task: Task) -> TaskTensors:
        step = {
            Kind.LABEL: self.label,
            Kind.FOREGROUND: self.foreground,
            Kind.SYNTHESIS: self.synthesis,
            Kind.FLOW_LOSS: self.flow_loss,
            Kind.BACKWARD: self.backward,
            Kind.FOREGROUND_BACKWARD: self.foreground_backward,
        }[task.kind]
        return step(task)

    def label(self, task: Task) -> TaskTensors:
        with self._recording(task.scale):
            features = self.role.module.network(task.scale).label_branch(self._labels(task))
        self.store.sites[_site(task)] = FrameGraph(features)
        return {}

    def foreground(self, task: Task) -> TaskTensors:
        coarse = next((self._leaf(read.tensor, task.scale - 1) for read in self.store.reads(task)), None)
        with self._recording(task.scale):
            made = self.role.module.network(task.scale).foreground_branch(self._labels(task), coarse)
        self.store.sites[_site(task)] = ForegroundGraph(coarse, self._mask(task), made)
        return _detached({f"foreground/{task.scale}": made.image, f"fg_features/{task.scale}": made.features})

    def synthesis(self, task: Task) -> TaskTensors:
        scale, (t,) = task.scale, task.frames
        graph: FrameGraph = self.store.sites[_site(task)]
        found = list(self.store.reads(task))
        attached = t % self.shape.n_frames_bp != 0
        graph.history = {read.producer.frames[0]: self._leaf(read.tensor, scale, attached)
                         for read in found if read.name == f"image/{scale}"}
        previous = [graph.history[i] if i in graph.history else self._earlier_frame(task, i)
                    for i in range(t - self.n_past, t)]
        features, image = (next((read.tensor for read in found if read.name == name), None)
                           for name in (f"features/{scale - 1}", f"foreground/{scale}"))
        if features is not None:
            graph.coarse = self._unpack(features, scale - 1)
        foreground = mask = None
        network = self.role.module.network(scale)
        if image is not None:
            # Constant here: its branch takes its gradient from those of the frame itself.
            foreground, mask = Foreground(image, image), self._mask(task)
        raw_only = self.cfg.generator.no_first_img and self.store.lane(task.lane).buffer.n_seen == 0
        with self._recording(scale):
            graph.out = out = network.synthesize(graph.label_features, torch.cat(previous, dim=1), graph.coarse,
                                                 foreground, mask, raw_only)
        made = {f"image/{scale}": out.image}
        if scale < self.finest:
            maps = [x for x in (out.features.img, out.features.flow) if x is not None]
            made[f"features/{scale}"] = torch.cat(maps, dim=1)
        else:
            made["raw"] = out.raw
        return _detached(made)

    def flow_loss(self, task: Task) -> TaskTensors:
        (t,) = task.frames
        lane, frame = self.store.lane(task.lane), self.store.frame(task, t)
        graph: FrameGraph = self.store.sites[_site(task)]
        assert graph.out is not None
        read = {name: tensor for _, name, tensor in self.store.reads(task)}
        reference = read.get("reference")
        if reference is None:
            reference = lane.buffer.carried[_site(task)].pop(("reference", frame))
        image = f"image/{self.finest}"
        real, before = lane.buffer.real[frame], lane.buffer.real[frame - 1]
        previous_fake = read.get(image)
        if previous_fake is None:
            previous_fake = before if frame == 0 else lane.buffer.carried[_site(task)][image, frame - 1]
        pair = RealPair(real, before, FlowReference(reference[:, :2], reference[:, 2:]))
        out = graph.out
        result = evaluate_flow(self.cfg, pair, out.image, previous_fake, out.flow, out.weight)
        result.losses["L1"] = l1(out.image.detach(), real)
        if task.lane == self.store.show:
            planes = [x.detach() for x in (out.image, out.raw, out.flow, out.weight, reference) if x is not None]
            self.store.shown[t] = torch.cat([x.to(reference.dtype) for x in planes], dim=1)
        graph.result = result.weighted(lane.share / lane.n_frames)
        self.store.add_losses(graph.result.losses)
        self.store.add_squared_norm("warp", graph.result)
        assert graph.result.fake is not None
        return {Part(f"grad_{image}", t): graph.result.fake}

    def backward(self, task: Task) -> TaskTensors:
        scale, (t,) = task.scale, task.frames
        graph: FrameGraph = self.store.sites.pop(_site(task))
        out, result = graph.out, graph.result
        assert out is not None
        pairs: list[tuple[Tensor | None, Tensor | None]] = [
            (out.image, result.fake), (out.flow, result.flow), (out.weight, result.weight)]
        for read in self.store.reads(task):
            pairs += self._arrived(out, read, scale)
        self._backward(pairs)
        made = {Part(f"grad_image/{scale}", i): _gradient(leaf) for i, leaf in graph.history.items()
                if leaf.requires_grad}
        if graph.coarse is not None and graph.coarse.img.requires_grad:
            maps = [x for x in (graph.coarse.img, graph.coarse.flow) if x is not None]
            made[Part(f"grad_features/{scale - 1}", t)] = torch.cat([_gradient(x) for x in maps], dim=1)
        return made

    def foreground_backward(self, task: Task) -> TaskTensors:
        graph: ForegroundGraph = self.store.sites.pop(_site(task))
        features = f"grad_fg_features/{task.scale}"
        pairs: list[tuple[Tensor | None, Tensor | None]] = []
        for read in self.store.reads(task):
            # Frame and purely synthesised frame are the foreground image where the mask is.
            pairs.append((graph.made.features, read.tensor) if read.name == features
                         else (graph.made.image, graph.mask * read.tensor))
        self._backward(pairs)
        if graph.coarse is None or not graph.coarse.requires_grad:
            return {}
        return {Part(f"grad_fg_features/{task.scale - 1}", task.frames[0]): _gradient(graph.coarse)}

    def _arrived(self, out: ScaleOutput, read: Read, scale: int) -> list[tuple[Tensor | None, Tensor | None]]:
        """Outputs of a frame, and the gradients to them that another task has sent."""
        if read.name == "grad_raw":
            return [(out.raw, read.tensor)]
        if read.name == f"grad_image/{scale}":
            return [(out.image, read.tensor)]
        assert read.name == f"grad_features/{scale}", read.name
        if out.features.flow is None:
            return [(out.features.img, read.tensor)]
        of_img, of_flow = read.tensor.chunk(2, dim=1)
        return [(out.features.img, of_img), (out.features.flow, of_flow)]

    def _backward(self, pairs: list[tuple[Tensor | None, Tensor | None]]) -> None:
        terms = [(x * gradient).sum() for x, gradient in pairs if x is not None and gradient is not None]
        self.role.engine.backward(torch.stack(terms).sum())

    def _recording(self, scale: int) -> AbstractContextManager[object]:
        return torch.set_grad_enabled(self._is_trained(scale))

    def _is_trained(self, scale: int) -> bool:
        return scale == self.finest or self.shape.train_all_scales

    def _leaf(self, tensor: Tensor, scale: int, attached: bool = True) -> Tensor:
        """An input made at `scale`, which wants a gradient if that scale is trained."""
        return tensor.detach().requires_grad_(attached and self._is_trained(scale))

    def _unpack(self, features: Tensor, scale: int) -> Features:
        maps = (features,) if self.cfg.generator.no_flow else features.chunk(2, dim=1)
        img, *flow = (self._leaf(x, scale) for x in maps)
        return Features(img, flow[0] if flow else None, None)

    def _mask(self, task: Task) -> Tensor:
        labels = self.store.lane(task.lane).buffer.labels[self.store.frame(task, task.frames[0])][task.scale]
        return foreground_mask(labels, self.cfg.generator.fg_labels)

    def _labels(self, task: Task) -> EncodedLabels:
        """The window of a frame. Its style is encoded by every branch that reads it: the encoder is small, and so no
        branch waits for another."""
        buffer, frame = self.store.lane(task.lane).buffer, self.store.frame(task, task.frames[0])
        window = buffer.label_window(frame, self.n_past + 1, task.scale)
        if not self.cfg.generator.style_nc:
            return window
        regions = buffer.labels[frame][-1].regions
        assert regions is not None
        module = self.role.module
        style = module.encode_style(buffer.real[frame], regions[:, 0])
        return replace(window, style=module.style_at(style, task.scale))

    def _earlier_frame(self, task: Task, index: int) -> Tensor:
        """A frame of the chunk before; at the start of a clip a given one, or nothing with no_first_img."""
        buffer, frame = self.store.lane(task.lane).buffer, self.store.frame(task, index)
        if frame >= 0:
            return buffer.carried[_site(task)][f"image/{task.scale}", frame]
        if self.cfg.generator.no_first_img:
            return self.store.nothing(task, f"image/{task.scale}")
        return self.role.module.start_history(buffer.real[frame][:, None])[task.scale][:, 0]


def _site(task: Task) -> Site:
    assert task.site is not None
    return task.site


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


def _detached(tensors: dict[str, Tensor]) -> TaskTensors:
    return {Part(name): tensor.detach() for name, tensor in tensors.items()}
