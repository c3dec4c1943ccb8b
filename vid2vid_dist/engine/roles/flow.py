"""Reference flow from a frozen network, and what is compared with it: predicted flow, warps (spec: losses 2)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from vid2vid_dist import losses
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.counting import Work, backward, measure, n_parameters
from vid2vid_dist.engine.plan.graph import LaneTasks
from vid2vid_dist.engine.plan.role import GENERATOR, Counted, Loss, Minimised, Resolution, RoleSpec
from vid2vid_dist.engine.plan.tasks import Kind, LaneChunk, NeededFrames, Site, Task
from vid2vid_dist.engine.plan.tensors import FLOW, WEIGHT, Part, TensorKind, TensorShape, image, reference
from vid2vid_dist.engine.run.tensor_store import TaskTensors, TensorStore
from vid2vid_dist.models.flow import NoFlow, RaftFlow, build_flow, raft_network

DIS_SECONDS_PER_PIXEL = 1.3e-7  # OpenCV's dense inverse search on one CPU core, measured


class FlowRole(RoleSpec):
    """The reference flow that other roles ask for (`needed_flow`). It depends on nothing that is trained, so it may be
    computed in the step before."""

    name, colour, works_ahead = "flow", "#bdbdbd", True

    def add_tasks(self, lane: LaneTasks) -> None:
        if lane.shape.flow_ready and not lane.is_ahead:
            return
        wanted: dict[int, list[int]] = defaultdict(list)  # frames by gap
        for t, gap in dict.fromkeys(pair for spec in lane.specs.all for pair in spec.needed_flow(lane.chunk)):
            wanted[gap].append(t)
        for gap, frames in wanted.items():
            for together in [tuple(frames)] if lane.whole_chunks else [(t,) for t in frames]:
                site = Site(self.name, lane.lane, together[0], part=f"{'ahead ' * lane.is_ahead}over {gap}")
                lane.add(Kind.REFERENCE, site, together, gap=gap, units=len(together),
                         makes=[Part(reference(gap), t) for t in together])

    def needed_frames(self, task: Task, chunk: LaneChunk) -> NeededFrames:
        frames = [chunk.n_seen + t for t in task.frames]
        found_by_loader = frozenset((frame, task.gap) for frame in frames if self.cfg.flow.network == "dis")
        return NeededFrames(real=frozenset(i for frame in frames for i in (frame, frame - task.gap)),
                            flows=found_by_loader)

    def shapes(self) -> Mapping[TensorKind, TensorShape]:
        disc = self.cfg.discriminator
        gaps = {1, *(disc.n_frames_D**s for s in range(disc.n_scales_temporal))}
        return {reference(gap): TensorShape(3, is_wide=True) for gap in gaps}

    def count(self, resolution: Resolution) -> Counted:
        key, height, width = (Kind.REFERENCE, 0), resolution.height, resolution.width
        if self.cfg.flow.network == "dis":
            return Counted({key: Work()}, {key: DIS_SECONDS_PER_PIXEL * height * width})
        if self.cfg.flow.network == "none":
            return Counted({key: Work()})
        raft = RaftFlow(raft_network(self.cfg.flow.network)).eval().requires_grad_(False)
        size = raft.size_for(height, width)
        with torch.no_grad():
            work, _ = measure(raft, raft, torch.empty(1, 3, *size), torch.empty(1, 3, *size))
        return Counted({key: work}, n_frozen=n_parameters(raft))

    def network(self) -> nn.Module:
        """Raises `UserError` when a weights file is missing or not what it should be."""
        return NoFlow() if self.cfg.flow.network == "none" else build_flow(self.cfg.flow)

    def run(self, task: Task, step: TensorStore) -> TaskTensors:
        clip, frames = step.lane(task.lane).clip, [step.frame(task, t) for t in task.frames]
        given = [clip.flows[frame, task.gap] for frame in frames if (frame, task.gap) in clip.flows]
        with torch.no_grad():
            found = self.module(step.real(task), step.real(task, back=task.gap),
                                *([torch.stack(given, dim=1)] if given else []))
        both = torch.cat([found.flow, found.confidence], dim=2)
        return {Part(reference(task.gap), t): x for t, x in zip(task.frames, both.unbind(1), strict=True)}


class WarpRole(RoleSpec):
    """The warp and flow losses of a frame: they read what does not travel, so they run where it was made."""

    name, colour, place = "warp", "#6baed6", GENERATOR

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        names = ["G_Warp", *([] if cfg.generator.no_flow else ["F_Flow", "F_Warp"])]
        names += ["W"] if WEIGHT in self.judged() else []
        self.losses = (Loss("L1", Minimised.NOT), *map(Loss, names))

    def add_tasks(self, lane: LaneTasks) -> None:
        for frames in lane.free_passes():
            reads = [Part(kind, t) for kind in (*self._kinds(), reference()) for t in frames]
            reads += [Part(image(self.finest), self.before(t, lane.chunk)) for t in frames]
            site = Site(GENERATOR, lane.lane, frames[0], self.finest)
            lane.add(Kind.FAKE, site, frames, role=self.name, units=len(frames), reads=reads,
                     makes=[Part(kind.gradient, t) for kind in self.judged() for t in frames])

    def before(self, frame: int, chunk: LaneChunk) -> int:
        """The generated frame that a frame is compared with."""
        return frame - 1

    def _kinds(self) -> list[TensorKind]:
        return [image(self.finest), *([] if self.cfg.generator.no_flow else [FLOW, WEIGHT])]

    def judged(self) -> list[TensorKind]:
        """What its losses give gradients to: the predicted weight only where there is no first image."""
        return [kind for kind in self._kinds() if kind != WEIGHT or self.cfg.generator.no_first_img]

    def needed_next(self, lane: LaneTasks) -> Iterator[tuple[Part, Site]]:
        n_seen, n_frames = lane.chunk
        for t in range(n_frames):
            site = Site(GENERATOR, lane.lane, t, self.finest)
            before = self.before(t, LaneChunk(n_seen + n_frames, n_frames))
            if lane.is_ahead:
                yield Part(reference(), t), site
            elif before < 0:
                yield Part(image(self.finest), n_frames + before), site

    def needed_flow(self, chunk: LaneChunk) -> Iterator[tuple[int, int]]:
        yield from ((t, 1) for t in range(chunk.n_frames))

    def needed_frames(self, task: Task, chunk: LaneChunk) -> NeededFrames:
        frames = [chunk.n_seen + t for t in task.frames]
        return NeededFrames(real=frozenset(i for frame in frames for i in (frame, frame - 1)))

    def count(self, resolution: Resolution) -> Counted:
        def plane(channels: int) -> Tensor:
            return torch.empty(1, channels, resolution.height, resolution.width, dtype=resolution.dtype)

        fake, flow = plane(3).requires_grad_(), plane(2).requires_grad_()

        def both() -> None:
            backward([losses.temporal_warp_loss(fake, plane(3), plane(2), plane(1), 1.0)])
            if not self.cfg.generator.no_flow:
                backward([losses.flow_loss(flow, plane(2), plane(1), 1.0, 1)
                          + losses.flow_warp_loss(flow, plane(3), plane(3), plane(1), 1.0)])

        return Counted({(Kind.FAKE, 0): replace(measure(nn.Module(), both)[0], saved=0.0)})

    def run(self, task: Task, step: TensorStore) -> TaskTensors:
        cfg, (clip, n_frames, _) = self.cfg, step.lane(task.lane)
        kinds = self.judged()
        leaves = {kind: step.stack(task, kind).requires_grad_() for kind in kinds}
        flow_ref = {Part(reference(), t): step.read(task, Part(reference(), t)) for t in task.frames}
        step.show(task, flow_ref)
        both = torch.stack(list(flow_ref.values()), dim=1).flatten(0, 1)
        ref, confidence = both[:, :2], both[:, 2:]
        real, before = (step.real(task, back).flatten(0, 1) for back in (0, 1))
        chunk = LaneChunk(clip.n_seen, n_frames)
        previous = torch.stack([step.read(task, Part(kinds[0], self.before(t, chunk))) if step.frame(task, t)
                                else clip.real[-1] for t in task.frames], dim=1).flatten(0, 1)
        fake, lambda_T = leaves[kinds[0]].flatten(0, 1), cfg.loss.lambda_T
        terms = {"G_Warp": losses.temporal_warp_loss(fake, previous, ref, confidence, lambda_T)}
        if FLOW in leaves:
            flow = leaves[FLOW].flatten(0, 1)
            terms["F_Flow"] = losses.flow_loss(flow, ref, confidence, cfg.loss.lambda_F, cfg.generator.n_scales_spatial)
            terms["F_Warp"] = losses.flow_warp_loss(flow, before, real, confidence, lambda_T)
        if WEIGHT in leaves:
            terms["W"] = losses.weight_loss(leaves[WEIGHT].flatten(0, 1), confidence)
        found = torch.autograd.grad(losses.add(list(terms.values())), list(leaves.values()))
        terms["L1"] = losses.l1(fake.detach(), real)
        return step.hand_in(task, terms, dict(zip(kinds, found, strict=True)))
