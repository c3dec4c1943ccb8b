"""The generator at work: one frame at one scale, forward and backward, from tensors of other frames and scales.

Every frame and scale has a graph of its own. What it reads of others enters as leaves, whose gradients are
handed back by its backward pass; so it does not matter on which rank the others are.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.tasks import Kind, Task
from vid2vid_dist.engine.plan.tensors import FLOW, RAW, WEIGHT, Part, TensorKind, image
from vid2vid_dist.engine.roles.kinds import features, fg_features, foreground, style
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.tensor_store import TaskTensors, TensorStore
from vid2vid_dist.models.composite import Features, Foreground, ScaleOutput, foreground_gradient
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import EncodedLabels, foreground_mask, pyramid


@dataclass
class FrameGraph:
    """A frame at one scale between its forward and its backward pass; inputs are leaves."""

    label_features: Tensor
    style: Tensor | None
    history: dict[int, Tensor] = field(default_factory=dict)  # attached ones, by frame of the chunk
    coarse: Features | None = None
    out: ScaleOutput | None = None


@dataclass
class ForegroundGraph:
    """The foreground branch of a frame at one scale, likewise."""

    coarse: Tensor | None  # features of the coarser scale
    style: Tensor | None
    mask: Tensor  # (B, 1, h, w)
    made: Foreground


@dataclass
class GeneratorRole:
    """Runs the generator's tasks."""

    cfg: Config
    engine: RoleEngine

    @property
    def module(self) -> Generator:
        assert isinstance(self.engine.module, Generator)
        return self.engine.module

    def run(self, task: Task, step: TensorStore) -> TaskTensors:
        do = {Kind.STYLE: self.style, Kind.LABEL: self.label, Kind.FOREGROUND: self.foreground,
              Kind.SYNTHESIS: self.synthesis, Kind.BACKWARD: self.backward,
              Kind.FOREGROUND_BACKWARD: self.foreground_backward, Kind.STYLE_BACKWARD: self.style_backward}
        return do[task.kind](task, step)

    def style(self, task: Task, step: TensorStore) -> TaskTensors:
        clip, frame = step.lane(task.lane).clip, step.frame(task, task.frames[0])
        regions = clip.labels[frame][-1].regions
        assert regions is not None
        encoded = self.module.encode_style(clip.real[frame], regions[:, 0])
        scales = [x[:, 0] for x in pyramid(encoded[:, None], self.module.n_scales)]
        step.sites[task.site] = scales
        return _detached(task, {style(s): x for s, x in enumerate(scales)})

    def label(self, task: Task, step: TensorStore) -> TaskTensors:
        labels = self._labels(task, step)
        with self._recording(task, step):
            made = self.module.network(task.scale).label_branch(labels)
        step.sites[task.site] = FrameGraph(made, labels.style)
        return {}

    def foreground(self, task: Task, step: TensorStore) -> TaskTensors:
        labels = self._labels(task, step)
        scale, coarse = task.scale, None
        if scale:
            coarse = self._leaf(step.read(task, Part(fg_features(scale - 1), task.frames[0])), scale - 1, step)
        with self._recording(task, step):
            made = self.module.network(scale).foreground_branch(labels, coarse)
        step.sites[task.site] = ForegroundGraph(coarse, labels.style, self._mask(task, step), made)
        return _detached(task, {foreground(scale): made.image, fg_features(scale): made.features})

    def synthesis(self, task: Task, step: TensorStore) -> TaskTensors:
        scale, (t,) = task.scale, task.frames
        clip, graph = step.lane(task.lane).clip, step.sites[task.site]
        previous = []
        for p in range(t - self.cfg.generator.n_frames_G + 1, t):
            frame = self._earlier_frame(task, step, p)
            if p >= 0 and t % step.shape.n_frames_bp:
                frame = graph.history[p] = self._leaf(frame, scale, step)
            previous.append(frame)
        if scale:
            graph.coarse = self._unpack(step.read(task, Part(features(scale - 1), t)), scale - 1, step)
        branch = mask = None
        if self.cfg.generator.fg:
            # Constant here: the branch takes its gradient from those of the frame itself.
            covering = step.read(task, Part(foreground(scale), t))
            branch, mask = Foreground(covering, covering), self._mask(task, step)
        raw_only = self.cfg.generator.no_first_img and clip.n_seen == 0
        with self._recording(task, step):
            graph.out = out = self.module.network(scale).synthesize(
                graph.label_features, torch.cat(previous, dim=1), graph.coarse, branch, mask, raw_only)
        if scale < self.module.n_scales - 1:
            maps = [x for x in (out.features.img, out.features.flow) if x is not None]
            made = {image(scale): out.image, features(scale): torch.cat(maps, dim=1)}
        else:
            made = self._outputs(out, scale)
        handed = _detached(task, made)
        step.show(task, handed)
        return handed

    def backward(self, task: Task, step: TensorStore) -> TaskTensors:
        scale, (t,) = task.scale, task.frames
        graph: FrameGraph = step.sites.pop(task.site)
        assert graph.out is not None
        arrived = step.gradients(task)
        pairs = [(x, arrived[kind]) for kind, x in self._outputs(graph.out, scale).items() if kind in arrived]
        if features(scale) in arrived:
            img, flow = graph.out.features.img, graph.out.features.flow
            of_img, *of_flow = arrived[features(scale)].chunk(1 if flow is None else 2, dim=1)
            pairs += [(img, of_img), *((flow, x) for x in of_flow if flow is not None)]
        leaves = {Part(image(scale).gradient, p): [leaf] for p, leaf in graph.history.items()}
        if graph.coarse is not None:
            maps = [x for x in (graph.coarse.img, graph.coarse.flow) if x is not None]
            leaves[Part(features(scale - 1).gradient, t)] = maps
        return self._backward(pairs, leaves | _style_leaf(task, graph.style))

    def foreground_backward(self, task: Task, step: TensorStore) -> TaskTensors:
        scale, (t,) = task.scale, task.frames
        graph: ForegroundGraph = step.sites.pop(task.site)
        arrived = step.gradients(task)
        pairs = [(graph.made.features, arrived.pop(fg_features(scale)))] if fg_features(scale) in arrived else []
        if arrived:  # those of the frames that it covers
            pairs.append((graph.made.image, foreground_gradient(graph.mask, list(arrived.values()))))
        leaves = {} if graph.coarse is None else {Part(fg_features(scale - 1).gradient, t): [graph.coarse]}
        return self._backward(pairs, leaves | _style_leaf(task, graph.style))

    def style_backward(self, task: Task, step: TensorStore) -> TaskTensors:
        scales: list[Tensor] = step.sites.pop(task.site)
        return self._backward([(scales[kind.scale], gradient) for kind, gradient in step.gradients(task).items()], {})

    def _outputs(self, out: ScaleOutput, scale: int) -> dict[TensorKind, Tensor]:
        """What critics and later frames may send gradients to."""
        found = {image(scale): out.image, RAW: out.raw, FLOW: out.flow, WEIGHT: out.weight}
        return {kind: x for kind, x in found.items() if x is not None}

    def _backward(self, pairs: list[tuple[Tensor, Tensor]], leaves: dict[Part, list[Tensor]]) -> TaskTensors:
        """From outputs and their gradients into the weights, and to the `leaves` that want any, joined by channels;
        zero where a network does not read what it is given."""
        wanted = {part: of_part for part, of_part in leaves.items() if of_part[0].requires_grad}
        flat = [leaf for of_part in wanted.values() for leaf in of_part]
        outputs, gradients = zip(*pairs, strict=True)
        found = [torch.zeros_like(leaf) if x is None else x
                 for leaf, x in zip(flat, self.engine.backward(outputs, gradients, flat), strict=True)]
        made: TaskTensors = {}
        for part, of_part in wanted.items():
            mine, found = found[: len(of_part)], found[len(of_part) :]
            made[part] = mine[0] if len(mine) == 1 else torch.cat(mine, dim=1)
        return made

    def _recording(self, task: Task, step: TensorStore) -> AbstractContextManager[object]:
        return torch.set_grad_enabled(self._is_trained(task.scale, step))

    def _is_trained(self, scale: int, step: TensorStore) -> bool:
        return scale == self.module.n_scales - 1 or step.shape.train_all_scales

    def _leaf(self, tensor: Tensor, scale: int, step: TensorStore) -> Tensor:
        """An input made at `scale`, which wants a gradient if that scale is trained."""
        return tensor.detach().requires_grad_(self._is_trained(scale, step))

    def _unpack(self, maps: Tensor, scale: int, step: TensorStore) -> Features:
        img, *flow = maps.chunk(1 if self.cfg.generator.no_flow else 2, dim=1)
        return Features(self._leaf(img, scale, step), self._leaf(flow[0], scale, step) if flow else None, None)

    def _mask(self, task: Task, step: TensorStore) -> Tensor:
        labels = step.lane(task.lane).clip.labels[step.frame(task, task.frames[0])][task.scale]
        return foreground_mask(labels, self.cfg.generator.fg_labels)

    def _labels(self, task: Task, step: TensorStore) -> EncodedLabels:
        """The window of a frame, with its style if there are styles."""
        (t,), n_frames = task.frames, self.cfg.generator.n_frames_G
        window = step.lane(task.lane).clip.label_window(step.frame(task, t), n_frames, task.scale)
        if not self.cfg.generator.style_nc:
            return window
        return replace(window, style=self._leaf(step.read(task, Part(style(task.scale), t)), task.scale, step))

    def _earlier_frame(self, task: Task, step: TensorStore, index: int) -> Tensor:
        """A frame of the chunk, or of one before; at the start of a clip a given one, or nothing with no_first_img."""
        clip, frame = step.lane(task.lane).clip, step.frame(task, index)
        if frame >= 0:
            return step.read(task, Part(image(task.scale), index))
        if self.cfg.generator.no_first_img:
            return step.zeros(task, image(task.scale))
        return clip.given(frame, task.scale)


def _style_leaf(task: Task, leaf: Tensor | None) -> dict[Part, list[Tensor]]:
    return {} if leaf is None else {Part(style(task.scale).gradient, task.frames[0]): [leaf]}


def _detached(task: Task, tensors: dict[TensorKind, Tensor]) -> TaskTensors:
    return {Part(kind, task.frames[0]): tensor.detach() for kind, tensor in tensors.items()}
