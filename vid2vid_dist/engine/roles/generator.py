"""The generator in a plan: its tasks, a frame at one scale each, what they read and cost. It runs in `frames`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from vid2vid_dist.engine.plan.counting import Work, backward, measure, meta_labels, n_parameters
from vid2vid_dist.engine.plan.graph import LaneTasks
from vid2vid_dist.engine.plan.role import GENERATOR, Counted, RateGroup, Resolution, RoleSpec
from vid2vid_dist.engine.plan.tasks import Kind, LaneChunk, NeededFrames, Site, Task
from vid2vid_dist.engine.plan.tensors import FLOW, RAW, WEIGHT, Part, TensorKind, TensorShape, image
from vid2vid_dist.engine.roles.frames import GeneratorRole
from vid2vid_dist.engine.roles.kinds import features, fg_features, foreground, shown_kinds, style
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.models.composite import Features, Foreground
from vid2vid_dist.models.compute_options import compute_options_from
from vid2vid_dist.models.generator import Generator


class GeneratorSpec(RoleSpec):
    """Makes the frames of a chunk and carries the critics' gradients back into its weights."""

    name, colour, rate = GENERATOR, "#2171b5", RateGroup.GENERATOR

    @property
    def n_past(self) -> int:
        return self.cfg.generator.n_frames_G - 1

    def add_tasks(self, lane: LaneTasks) -> None:
        gen = self.cfg.generator
        for t in range(lane.chunk.n_frames):
            if gen.style_nc:
                makes = [Part(style(s), t) for s in range(self.finest + 1)]
                lane.add(Kind.STYLE, self._site(lane, t, self.finest, "style"), (t,), makes=makes)
            for s in range(self.finest + 1):
                site = self._site(lane, t, s)
                looks = [Part(style(s), t)] if gen.style_nc else []
                label = lane.add(Kind.LABEL, site, (t,), scale=s, reads=looks)
                label.after = list(lane.after)
                reads = [Part(image(s), p) for p in range(t - self.n_past, t)]
                if s:
                    reads.append(Part(features(s - 1), t))
                if gen.fg:
                    coarse = [Part(fg_features(s - 1), t)] if s else []
                    branch = lane.add(Kind.FOREGROUND, site._replace(part="foreground"), (t,), scale=s,
                                      reads=[*coarse, *looks], makes=[Part(foreground(s), t), Part(fg_features(s), t)])
                    branch.after = list(lane.after)
                    reads.append(Part(foreground(s), t))
                made = shown_kinds(self.cfg) if s == self.finest else [image(s), features(s)]
                lane.add(Kind.SYNTHESIS, site, (t,), scale=s, follows=[label], reads=reads,
                         makes=[Part(kind, t) for kind in made])

    def add_backwards(self, lane: LaneTasks) -> None:
        """Last frame first, finest scale first. Later frames that read a frame un-detached come before it."""
        gen, trained = self.cfg.generator, [self.finest]
        if lane.shape.train_all_scales:
            trained = list(reversed(range(self.finest + 1)))
        for t in reversed(range(lane.chunk.n_frames)):
            attached = [p for p in range(max(0, t - self.n_past), t) if t % lane.shape.n_frames_bp]
            for s in trained:
                outputs = shown_kinds(self.cfg) if s == self.finest else [image(s)]
                hands_on = s - 1 in trained
                site = self._site(lane, t, s)
                task = lane.add(Kind.BACKWARD, site, (t,), scale=s, follows=[lane.made[Part(image(s), t)]])
                lane.read_gradients(task, [*outputs, features(s)], t)
                lane.sends_gradients(task, [image(s)], attached)
                lane.sends_gradients(task, [features(s - 1)] if hands_on else [], [t])
                lane.sends_gradients(task, [style(s)] if gen.style_nc else [], [t])
                if gen.fg:
                    # Its gradient is the frame's, masked, so it waits for the same critics and not for BACKWARD.
                    task = lane.add(Kind.FOREGROUND_BACKWARD, site._replace(part="foreground"), (t,), scale=s,
                                    follows=[lane.made[Part(foreground(s), t)]])
                    lane.read_gradients(task, [image(s), *([RAW] if s == self.finest else []), fg_features(s)], t)
                    lane.sends_gradients(task, [fg_features(s - 1)] if hands_on else [], [t])
                    lane.sends_gradients(task, [style(s)] if gen.style_nc else [], [t])
            if gen.style_nc:
                made = lane.made[Part(style(self.finest), t)]
                task = lane.add(Kind.STYLE_BACKWARD, self._site(lane, t, self.finest, "style"), (t,), follows=[made])
                lane.read_gradients(task, [style(s) for s in trained], t)

    def needed_next(self, lane: LaneTasks) -> Iterator[tuple[Part, Site]]:
        n_frames = lane.chunk.n_frames
        for t in range(max(0, n_frames - self.n_past), n_frames):
            # Frame t is in the history of the next chunk's first frames, down to n_past frames on.
            for heir in range(min(self.n_past - (n_frames - 1 - t), n_frames)):
                for s in range(self.finest + 1):
                    yield Part(image(s), t), self._site(lane, heir, s)

    def needed_frames(self, task: Task, chunk: LaneChunk) -> NeededFrames:
        (frame,) = (chunk.n_seen + t for t in task.frames)
        now, window = frozenset([frame]), frozenset(range(frame - self.n_past, frame + 1))
        if task.kind in (Kind.LABEL, Kind.FOREGROUND):
            return NeededFrames(labels=window)
        if task.kind == Kind.STYLE:
            return NeededFrames(labels=now, real=now)
        if task.kind == Kind.SYNTHESIS:  # a clip begins with given frames, unless it begins from nothing
            given = frozenset() if self.cfg.generator.no_first_img else frozenset(i for i in window if i < 0)
            return NeededFrames(labels=now if self.cfg.generator.fg else frozenset(), real=given)
        return NeededFrames()

    def shapes(self) -> Mapping[TensorKind, TensorShape]:
        gen = self.cfg.generator
        found = {RAW: TensorShape(3), FLOW: TensorShape(2), WEIGHT: TensorShape(1)}
        for s in range(self.finest + 1):
            halvings, ngf = self.finest - s, gen.ngf // 2**s
            found |= {image(s): TensorShape(3, halvings), foreground(s): TensorShape(3, halvings),
                      features(s): TensorShape(ngf if gen.no_flow else 2 * ngf, halvings),
                      fg_features(s): TensorShape(ngf // 2 if gen.n_downsample_G > 2 else ngf, halvings),
                      style(s): TensorShape(gen.style_nc, halvings)}
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
        coarse: Features | None = None
        coarse_fg: Tensor | None = None
        for scale in range(self.finest + 1):
            network, halvings = generator.network(scale), self.finest - scale
            size = resolution.height >> halvings, resolution.width >> halvings
            labels = meta_labels(self.cfg, size, dtype, finest=halvings == 0)
            if gen.style_nc:
                labels = replace(labels, style=torch.empty(1, gen.style_nc, *size, dtype=dtype, requires_grad=True))
            previous = torch.empty(1, 3 * self.n_past, *size, dtype=dtype,
                                   requires_grad=self.cfg.schedule.max_frames_backpropagate > 1)
            work[Kind.LABEL, scale], label_features = measure(generator, network.label_branch, labels)
            branch = mask = None
            if gen.fg:
                mask = torch.empty(1, 1, *size, dtype=dtype)
                work[Kind.FOREGROUND, scale], of_fg = measure(generator, network.foreground_branch, labels, coarse_fg)
                work[Kind.FOREGROUND_BACKWARD, scale], _ = measure(generator, backward, [of_fg.image, of_fg.features])
                branch = Foreground(of_fg.image.detach(), of_fg.features.detach())
                coarse_fg = of_fg.features.detach().requires_grad_()
            work[Kind.SYNTHESIS, scale], out = measure(
                network, network.synthesize, label_features, previous, coarse, branch, mask)
            outputs = [x for x in (out.image, out.raw, out.flow, out.weight) if x is not None]
            work[Kind.BACKWARD, scale], _ = measure(generator, backward, outputs)
            img, flow = out.features.img, out.features.flow
            coarse = Features(img.detach().requires_grad_(), None if flow is None else flow.detach().requires_grad_(),
                              None)
        return Counted(work, n_trained=n_parameters(generator))

    def network(self) -> nn.Module:
        return Generator(self.cfg)

    def at_work(self, network: nn.Module, engine: RoleEngine) -> GeneratorRole:
        return GeneratorRole(self.cfg, engine)

    def _site(self, lane: LaneTasks, frame: int, scale: int, part: str = "") -> Site:
        return Site(GENERATOR, lane.lane, frame, scale, part)
