"""The generator in a plan: its tasks, a frame at one scale each, what they read and cost. It runs in `frames`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vid2vid_dist.engine.plan.counting import Work, backward, measure, meta_labels
from vid2vid_dist.engine.plan.graph import LaneTasks
from vid2vid_dist.engine.plan.role import GENERATOR, Counted, RateGroup, Resolution, RoleSpec
from vid2vid_dist.engine.plan.tasks import Kind, LaneChunk, NeededFrames, Site, Task
from vid2vid_dist.engine.plan.tensors import FLOW, RAW, WEIGHT, Part, TensorKind, TensorShape, What, image
from vid2vid_dist.models.composite import Flow, blend
from vid2vid_dist.models.compute_options import compute_options_from
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import EncodedLabels


class GeneratorSpec(RoleSpec):
    """Makes the frames of a chunk and carries the critics' gradients back into its weights."""

    name, colour, rate = GENERATOR, "#2171b5", RateGroup.GENERATOR

    @property
    def n_past(self) -> int:
        return self.cfg.generator.n_frames_G - 1

    @property
    def n_buckets(self) -> int:  # type: ignore[override]
        """Three: the encoder of labels (with styles) and that of the frames before, at the coarsest scale, have a
        quarter of the weights each, and get their last gradients when all else is complete. One where a rank gets only
        its part of the sums, which reaches over all."""
        return 3 if self.cfg.generator.has_branches and self.cfg.optim.zero_stage == 1 else 1

    def bucket(self, kind: Kind, scale: int) -> int:
        late = {Kind.STYLE_BACKWARD: 0, Kind.LABEL_BACKWARD: 0, Kind.PAST_BACKWARD: 1} if scale == 0 else {}
        return late.get(kind, 2) if self.n_buckets > 1 else 0

    def weights(self, network: nn.Module) -> list[list[nn.Parameter]]:
        if self.n_buckets == 1:
            return super().weights(network)
        assert isinstance(network, Generator)
        coarsest = network.network(0)
        styles = network.netE.parameters() if network.netE else ()
        late = [[*coarsest.model_down_seg.parameters(), *styles], [*coarsest.model_down_img.parameters()]]
        known = {p for of in late for p in of}
        return [*late, [p for p in network.parameters() if p not in known]]

    def add_tasks(self, lane: LaneTasks) -> None:
        for t in range(lane.chunk.n_frames):
            if self.cfg.generator.style_nc:
                lane.add(Kind.STYLE, self._site(lane, t, self.finest, "style"), (t,),
                         makes=[Part(What.STYLE.at(s), t) for s in range(self.finest + 1)])
            for s in range(self.finest + 1):
                self._add_frame(lane, t, s)

    def _add_frame(self, lane: LaneTasks, t: int, s: int) -> None:
        """Forward tasks of a frame at one scale."""
        gen = self.cfg.generator

        def add(kind: Kind, part: str, reads: Sequence[TensorKind], makes: Sequence[TensorKind], past: int = 0) -> None:
            """`past`: so many frames before are read, too."""
            earlier = [Part(image(s), p) for p in range(t - past, t)]
            lane.add(kind, self._site(lane, t, s, part), (t,), scale=s, makes=[Part(x, t) for x in makes],
                     reads=[*earlier, *(Part(x, t) for x in reads)])

        styles: list[TensorKind] = [What.STYLE.at(s)] if gen.style_nc else []
        whence, covering = styles, list[TensorKind]()
        if gen.has_branches:
            add(Kind.LABEL, "labels", styles, [What.LABELS.at(s)])
            add(Kind.PAST, "past", [What.LABELS.at(s)], [What.TRUNK.at(s)], self.n_past)
            whence = [What.TRUNK.at(s), *(styles if gen.is_modulated else [])]
        if gen.fg:
            coarse = [What.FG_FEATURES.at(s - 1)] if s else []
            add(Kind.FOREGROUND, "foreground", [*coarse, *styles], [What.FOREGROUND.at(s), What.FG_FEATURES.at(s)])
            covering.append(What.FOREGROUND.at(s))
        if not gen.no_flow:
            blends = gen.warps(lane.chunk.n_seen)
            coarse = [What.FLOW_FEATURES.at(s - 1)] if s else []
            made = [*([What.WARPED.at(s)] if blends else []), *self._heads(s)]
            add(Kind.FLOW, "flow", [*whence, *coarse], [*made, What.FLOW_FEATURES.at(s)], int(blends))
            covering += made
        coarse = [What.FEATURES.at(s - 1)] if s else []
        add(Kind.SYNTHESIS, "", [*whence, *coarse], [What.SYNTHESISED.at(s), What.FEATURES.at(s)])
        add(Kind.BLEND, "", covering, self._shown(s))

    def add_backwards(self, lane: LaneTasks) -> None:
        """Last frame first, finest scale first. Later frames that read a frame un-detached come before it."""
        gen, scales = self.cfg.generator, [self.finest]
        if lane.shape.train_all_scales:
            scales = list(reversed(range(self.finest + 1)))
        for t in reversed(range(lane.chunk.n_frames)):
            for s in scales:
                if not gen.no_flow:
                    blended = gen.warps(lane.chunk.n_seen)
                    self._add_backward(lane, t, Kind.FLOW_BACKWARD, What.FLOW_FEATURES.at(s), [
                        *([image(s)] if blended else []), *self._heads(s), What.FLOW_FEATURES.at(s)],
                        [Part(What.SYNTHESISED.at(s), t)] if blended else [])
                self._add_backward(lane, t, Kind.SYNTHESIS_BACKWARD, What.SYNTHESISED.at(s),
                                   [*self._shown(s), What.FEATURES.at(s)])
                if gen.has_branches:
                    self._add_backward(lane, t, Kind.PAST_BACKWARD, What.TRUNK.at(s), [What.TRUNK.at(s)])
                    self._add_backward(lane, t, Kind.LABEL_BACKWARD, What.LABELS.at(s), [What.TRUNK.at(s)])
                if gen.fg:  # its gradient is the frame's, masked
                    self._add_backward(lane, t, Kind.FOREGROUND_BACKWARD, What.FOREGROUND.at(s),
                                       [*self._shown(s), What.FG_FEATURES.at(s)])
            if gen.style_nc:
                self._add_backward(lane, t, Kind.STYLE_BACKWARD, What.STYLE.at(self.finest),
                                   [What.STYLE.at(s) for s in scales])

    def _add_backward(self, lane: LaneTasks, t: int, kind: Kind, made: TensorKind, of: Sequence[TensorKind],
                      reads: Sequence[Part] = ()) -> None:
        """From the gradients `of` what the branch that has `made` something makes of a frame, to those of what it has
        read: of earlier frames only within a span of n_frames_bp."""
        (forward,) = lane.made[Part(made, t)]
        assert forward.site is not None
        lane.add(kind, forward.site, (t,), scale=forward.scale, reads=[*reads, *(Part(x.gradient, t) for x in of)],
                 makes=[part.gradient for need in forward.needs for part in need.parts
                        if part.frame == t or t % lane.shape.n_frames_bp])

    def _shown(self, s: int) -> list[TensorKind]:
        return [image(s), *([RAW] if s == self.finest else [])]

    def _heads(self, s: int) -> list[TensorKind]:
        return [FLOW, WEIGHT] if s == self.finest else []

    def needed_next(self, lane: LaneTasks) -> Iterator[tuple[Part, Site]]:
        n_frames = lane.chunk.n_frames
        for t in range(max(0, n_frames - self.n_past), n_frames):
            # Frame t is in the history of the next chunk's first frames, down to n_past frames on.
            for heir in range(min(self.n_past - (n_frames - 1 - t), n_frames)):
                for s in range(self.finest + 1) if self.cfg.generator.has_branches else ():
                    yield Part(image(s), t), self._site(lane, heir, s, "past")
                    if t == n_frames - 1 and heir == 0 and not self.cfg.generator.no_flow:
                        yield Part(image(s), t), self._site(lane, heir, s, "flow")

    def needed_frames(self, task: Task, chunk: LaneChunk) -> NeededFrames:
        gen, (frame,) = self.cfg.generator, (chunk.n_seen + t for t in task.frames)
        nothing, now, window = frozenset[int](), frozenset([frame]), frozenset(range(frame - self.n_past, frame + 1))
        modulating = window if gen.is_modulated else nothing
        covered = now if gen.fg else nothing  # the mask is found in the labels
        # A clip begins with given frames, unless it begins from nothing.
        given = nothing if gen.no_first_img else frozenset(i for i in window if i < 0)
        labels = {Kind.STYLE: now, Kind.LABEL: window, Kind.FOREGROUND: window, Kind.FLOW: covered | modulating,
                  Kind.SYNTHESIS: modulating if gen.has_branches else window, Kind.BLEND: covered}
        real = {Kind.STYLE: now, Kind.PAST: given, Kind.FLOW: given & {frame - 1}}
        return NeededFrames(labels.get(task.kind, nothing), real.get(task.kind, nothing))

    def shapes(self) -> Mapping[TensorKind, TensorShape]:
        gen = self.cfg.generator
        found = {RAW: TensorShape(3), FLOW: TensorShape(2), WEIGHT: TensorShape(1)}
        for s in range(self.finest + 1):
            halvings, ngf = self.finest - s, gen.ngf // 2**s
            deep = gen.n_downsample_G if s == 0 else 1
            channels = dict.fromkeys((What.IMAGE, What.SYNTHESISED, What.FOREGROUND), 3)
            channels |= {What.WARPED: 4, What.FEATURES: ngf, What.FLOW_FEATURES: ngf, What.STYLE: gen.style_nc,
                         What.FG_FEATURES: ngf // 2 if gen.n_downsample_G > 2 else ngf}
            found |= {what.at(s): TensorShape(n, halvings) for what, n in channels.items()}
            found |= {what.at(s): TensorShape(ngf * 2**deep, halvings + deep) for what in (What.LABELS, What.TRUNK)}
        return found

    def count(self, resolution: Resolution) -> Counted:
        gen, dtype = self.cfg.generator, resolution.dtype
        generator = Generator(self.cfg).to(dtype)
        generator.set_compute_options(compute_options_from(self.cfg.optim, on_cpu=resolution.on_cpu))
        generator.check_size(resolution.width, resolution.height)
        work: dict[tuple[Kind, int], Work] = {}
        if generator.netE is not None:
            real = torch.empty(1, 3, resolution.height, resolution.width, dtype=dtype)
            work[Kind.STYLE, 0], made = measure(generator, generator.style_features, real)
            work[Kind.STYLE_BACKWARD, 0], _ = measure(generator, backward, [made])
        coarse: dict[str, Tensor] = {}
        for scale in range(self.finest + 1):
            halvings = self.finest - scale
            size = resolution.height >> halvings, resolution.width >> halvings
            labels = meta_labels(self.cfg, size, dtype, finest=halvings == 0)
            if gen.style_nc:
                labels = replace(labels, style=torch.empty(1, gen.style_nc, *size, dtype=dtype, requires_grad=True))
            work |= {(kind, scale): found for kind, found in self._count(generator, scale, labels, coarse).items()}
        return Counted(work, n_trained=[sum(p.numel() for p in of) for of in self.weights(generator)])

    def _count(self, generator: Generator, scale: int, labels: EncodedLabels, coarse: dict[str, Tensor]
               ) -> dict[Kind, Work]:
        """A frame at one scale. `coarse`: feature maps of the next coarser scale by branch, then of this one."""
        network, work = generator.network(scale), dict[Kind, Work]()
        size, dtype = labels.size[::-1], labels.planes.dtype

        def leaf(x: Tensor) -> Tensor:
            return x.detach().requires_grad_()

        previous = torch.empty(1, 3 * self.n_past, *size, dtype=dtype,
                               requires_grad=self.cfg.schedule.max_frames_backpropagate > 1)
        covering = flow = None
        labelled, whence = measure(generator, network.label_branch, labels)
        if self.cfg.generator.has_branches:
            work[Kind.LABEL] = labelled
            work[Kind.LABEL_BACKWARD], _ = measure(generator, backward, [whence])
            work[Kind.PAST], made = measure(generator, network.encode_past, whence.detach(), previous)
            work[Kind.PAST_BACKWARD], _ = measure(generator, backward, [made])
            whence = leaf(made)
        if self.cfg.generator.fg:
            work[Kind.FOREGROUND], of_fg = measure(generator, network.foreground_branch, labels, coarse.get("fg"))
            work[Kind.FOREGROUND_BACKWARD], _ = measure(generator, backward, [of_fg.image, of_fg.features])
            covering = of_fg.image.detach(), torch.empty(1, 1, *size, dtype=dtype)
            coarse["fg"] = leaf(of_fg.features)
        work[Kind.SYNTHESIS], (raw, maps) = measure(
            generator, network.image_branch, whence, coarse.get("image"), labels)
        if not self.cfg.generator.has_branches:
            work[Kind.SYNTHESIS] += labelled
        coarse["image"] = leaf(maps)
        if not self.cfg.generator.no_flow:
            before = previous[:, -3:]
            work[Kind.FLOW], flow = measure(
                generator, network.flow_branch, whence, before, coarse.get("flow"), labels)
            blended = blend(raw.detach(), flow.warped, flow.weight, covering)
            work[Kind.FLOW_BACKWARD], _ = measure(generator, backward, [blended[0], flow.flow, flow.weight])
            coarse["flow"] = leaf(flow.features)
            flow = Flow(*(x.detach() for x in (flow.flow, flow.weight, flow.warped, flow.features)))
        work[Kind.BLEND], frames = measure(generator, blend, raw, flow and flow.warped, flow and flow.weight, covering)
        work[Kind.SYNTHESIS_BACKWARD], _ = measure(generator, backward, list(dict.fromkeys(frames)))
        return work

    def network(self) -> nn.Module:
        return Generator(self.cfg)

    def _site(self, lane: LaneTasks, frame: int, scale: int, part: str = "") -> Site:
        return Site(GENERATOR, lane.lane, frame, scale, part)
