"""The generator at work: one frame at one scale, branch by branch, from tensors of other frames, scales and branches.

What a task reads of others enters its graph as leaves, whose gradients its backward task hands back; so it does not
matter on which rank the others are.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vid2vid_dist.engine.plan.tasks import Kind, Task
from vid2vid_dist.engine.plan.tensors import FLOW, RAW, WEIGHT, Part, TensorKind, What, image
from vid2vid_dist.engine.roles.generator import GeneratorSpec
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.tensor_store import TaskTensors, TensorStore
from vid2vid_dist.models.composite import Flow, ScaleGenerator, blend, foreground_gradient
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import EncodedLabels, foreground_mask, pyramid


@dataclass
class Graph:
    """What the forward tasks of a site leave to its backward task: leaves by what they were read as, and outputs by
    what their gradients come as. `flow`: what the flow branch has made."""

    leaves: dict[Part, Tensor] = field(default_factory=dict)
    outputs: dict[TensorKind, Tensor] = field(default_factory=dict)
    flow: Flow | None = None


class GeneratorRole(GeneratorSpec):
    """Runs the generator's tasks."""

    module: Generator
    engine: RoleEngine

    def run(self, task: Task, step: TensorStore) -> TaskTensors:
        forward = {Kind.STYLE: self.style, Kind.LABEL: self.label, Kind.FOREGROUND: self.foreground,
                   Kind.PAST: self.past, Kind.SYNTHESIS: self.synthesis, Kind.FLOW: self.flow, Kind.BLEND: self.blend}
        if task.kind not in forward:
            return self.backward(task, step)
        graph: Graph = step.sites.setdefault(task.site, Graph())
        with torch.set_grad_enabled(task.kind == Kind.STYLE or self._is_trained(task.scale, step)):  # styles always are
            made = forward[task.kind](task, step, graph)
        return {Part(kind, task.frames[0]): x.detach() for kind, x in made.items()}

    def style(self, task: Task, step: TensorStore, graph: Graph) -> dict[TensorKind, Tensor]:
        clip, frame = step.lane(task.lane).clip, step.frame(task, task.frames[0])
        regions = clip.labels[frame][-1].regions
        assert regions is not None
        encoded = self.module.encode_style(clip.real[frame], regions[:, 0])
        by_scale = enumerate(pyramid(encoded[:, None], self.module.n_scales))
        graph.outputs = {What.STYLE.at(s): x[:, 0] for s, x in by_scale}
        return graph.outputs

    def label(self, task: Task, step: TensorStore, graph: Graph) -> dict[TensorKind, Tensor]:
        made = self._network(task).label_branch(self._labels(task, step, graph))
        graph.outputs = {What.TRUNK.at(task.scale): made}  # the trunk is a sum: its gradient is that of each part
        return {What.LABELS.at(task.scale): made}

    def foreground(self, task: Task, step: TensorStore, graph: Graph) -> dict[TensorKind, Tensor]:
        scale, labels = task.scale, self._labels(task, step, graph)
        coarse = self._read(task, step, graph, What.FG_FEATURES.at(scale - 1)) if scale else None
        made = self._network(task).foreground_branch(labels, coarse)
        graph.outputs = {What.FOREGROUND.at(scale): made.image}
        if scale < self.finest:
            graph.outputs[What.FG_FEATURES.at(scale)] = made.features
        return graph.outputs

    def past(self, task: Task, step: TensorStore, graph: Graph) -> dict[TensorKind, Tensor]:
        labels = step.read(task, Part(What.LABELS.at(task.scale), task.frames[0]))
        previous = [self._before(task, step, graph, back) for back in range(self.n_past, 0, -1)]
        graph.outputs = {What.TRUNK.at(task.scale): self._network(task).encode_past(labels, torch.cat(previous, dim=1))}
        return graph.outputs

    def synthesis(self, task: Task, step: TensorStore, graph: Graph) -> dict[TensorKind, Tensor]:
        scale, network = task.scale, self._network(task)
        coarse = self._read(task, step, graph, What.FEATURES.at(scale - 1)) if scale else None
        if self.cfg.generator.has_branches:
            begin, labels = self._read(task, step, graph, What.TRUNK.at(scale)), self._modulating(task, step, graph)
        else:
            labels = self._labels(task, step, graph)
            begin = network.label_branch(labels)
        frame, maps = network.image_branch(begin, coarse, labels)
        graph.outputs = {What.SYNTHESISED.at(scale): frame}
        if scale < self.finest:
            graph.outputs[What.FEATURES.at(scale)] = maps
        return graph.outputs

    def flow(self, task: Task, step: TensorStore, graph: Graph) -> dict[TensorKind, Tensor]:
        scale, begin = task.scale, self._read(task, step, graph, What.TRUNK.at(task.scale))
        coarse = self._read(task, step, graph, What.FLOW_FEATURES.at(scale - 1)) if scale else None
        before = self._before(task, step, graph, 1) if self._warps(task, step) else None
        graph.flow = made = self._network(task).flow_branch(begin, before, coarse, self._modulating(task, step, graph))
        graph.outputs = {What.FLOW_FEATURES.at(scale): made.features}
        if scale == self.finest:
            graph.outputs = {FLOW: made.flow, WEIGHT: made.weight}
        if made.warped is None:
            return graph.outputs
        return graph.outputs | {What.WARPED.at(scale): torch.cat([made.warped.detach(), made.weight.detach()], dim=1)}

    def blend(self, task: Task, step: TensorStore, graph: Graph) -> dict[TensorKind, Tensor]:
        scale, (t,) = task.scale, task.frames
        before = weight = covering = None
        if self._warps(task, step):
            both = step.read(task, Part(What.WARPED.at(scale), t))
            before, weight = both[:, :3], both[:, 3:]
        if self.cfg.generator.fg:
            covering = step.read(task, Part(What.FOREGROUND.at(scale), t)), self._mask(task, step)
        # What is not synthesised is constant here: other branches take their gradients from those of the frame.
        frame, raw = blend(graph.outputs[What.SYNTHESISED.at(scale)], before, weight, covering)
        made = {image(scale): frame, **({RAW: raw} if scale == self.finest else {})}
        graph.outputs |= made
        if scale == self.finest:
            shown = {Part(kind, t): x.detach() for kind, x in made.items()}
            others = () if self.cfg.generator.no_flow else (Part(FLOW, t), Part(WEIGHT, t))
            step.show(task, shown | {part: step.read(task, part) for part in others})
        return made

    def backward(self, task: Task, step: TensorStore) -> TaskTensors:
        """From the gradients of a site's outputs to weights and leaves."""
        graph: Graph = step.sites.pop(task.site)
        arrived = step.gradients(task)
        pairs = [(graph.outputs[kind], arrived[kind]) for kind in arrived if kind in graph.outputs]
        covers = [arrived[kind] for kind in arrived if kind not in graph.outputs]  # of the frames that it is part of
        if covers and task.kind == Kind.FOREGROUND_BACKWARD:
            gradient = foreground_gradient(self._mask(task, step), covers)
            pairs.append((graph.outputs[What.FOREGROUND.at(task.scale)], gradient))
        elif covers:
            pairs.append(self._blended(task, step, graph, covers))
        wanted = {part: leaf for part, leaf in graph.leaves.items() if leaf.requires_grad}
        outputs, gradients = zip(*pairs, strict=True)
        found = self.engine.backward(outputs, gradients, list(wanted.values()))
        # Zero where a network does not read what it is given.
        return {part._replace(kind=part.kind.gradient): torch.zeros_like(leaf) if x is None else x
                for (part, leaf), x in zip(wanted.items(), found, strict=True)}

    def _blended(self, task: Task, step: TensorStore, graph: Graph, covers: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The frame as a function of flow and weight, and its gradient where no foreground covers it."""
        assert graph.flow is not None
        constant = step.read(task, Part(What.SYNTHESISED.at(task.scale), task.frames[0]))
        frame, _ = blend(constant, graph.flow.warped, graph.flow.weight)
        (gradient,) = covers
        return frame, gradient * (1 - self._mask(task, step)) if self.cfg.generator.fg else gradient

    def _network(self, task: Task) -> ScaleGenerator:
        return self.module.network(task.scale)

    def _is_trained(self, scale: int, step: TensorStore) -> bool:
        return scale == self.finest or step.shape.train_all_scales

    def _warps(self, task: Task, step: TensorStore) -> bool:
        return self.cfg.generator.warps(step.lane(task.lane).clip.n_seen)

    def _read(self, task: Task, step: TensorStore, graph: Graph, kind: TensorKind, back: int = 0) -> Tensor:
        """A leaf, which wants a gradient if the scale that it was made at is trained."""
        part = Part(kind, task.frames[0] - back)
        leaf = graph.leaves[part] = step.read(task, part).detach().requires_grad_(self._is_trained(kind.scale, step))
        return leaf

    def _mask(self, task: Task, step: TensorStore) -> Tensor:
        labels = step.lane(task.lane).clip.labels[step.frame(task, task.frames[0])][task.scale]
        return foreground_mask(labels, self.cfg.generator.fg_labels)

    def _labels(self, task: Task, step: TensorStore, graph: Graph) -> EncodedLabels:
        """The window of a frame, with its style if there are styles."""
        (t,), n_frames = task.frames, self.cfg.generator.n_frames_G
        window = step.lane(task.lane).clip.label_window(step.frame(task, t), n_frames, task.scale)
        if not self.cfg.generator.style_nc:
            return window
        return replace(window, style=self._read(task, step, graph, What.STYLE.at(task.scale)))

    def _modulating(self, task: Task, step: TensorStore, graph: Graph) -> EncodedLabels | None:
        """The same, where norm layers read it."""
        return self._labels(task, step, graph) if self.cfg.generator.is_modulated else None

    def _before(self, task: Task, step: TensorStore, graph: Graph, back: int) -> Tensor:
        """The frame so many before: of the chunk, or of one before; at the start of a clip a given one, or nothing with
        no_first_img. Its gradient is wanted where it is of the same span of the chunk."""
        clip, (t,), kind = step.lane(task.lane).clip, task.frames, image(task.scale)
        frame = step.frame(task, t - back)
        if frame < 0:
            return step.zeros(task, kind) if self.cfg.generator.no_first_img else clip.given(frame, task.scale)
        if back <= t and t % step.shape.n_frames_bp:
            return self._read(task, step, graph, kind, back)
        return step.read(task, Part(kind, t - back))
