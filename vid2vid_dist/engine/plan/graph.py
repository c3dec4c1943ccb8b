"""The tasks of one training step and what each of them waits for.

A step works on one chunk of every lane. Frame t of scale s waits only for scale s - 1 of the same frame and
for the frames before it at its own scale; labels, real frames and, with n_frames_bp = 1, the backward passes
wait for no other frame. Reference flow depends on nothing that is trained, so it may run a step ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.tasks import INTO_WEIGHTS, Kind, LaneChunk, Need, Site, StepShape, Task
from vid2vid_dist.models.temporal import TemporalPlan, frames_kept, temporal_plan


def step_tasks(cfg: Config, shape: StepShape) -> list[Task]:
    """All tasks of a step; `tasks[i].number == i`, and every need is of a smaller number."""
    step = _Step(cfg, shape)
    for lane, chunk in enumerate(shape.lanes):
        if chunk.n_frames:
            step.add_lane(lane, chunk)
    for lane, chunk in enumerate(shape.ahead):
        if chunk.n_frames:
            step.add_flows(lane, chunk, ahead=True)
    step.add_updates()
    return step.tasks


class _Step:
    """Collects the tasks of a step."""

    def __init__(self, cfg: Config, shape: StepShape) -> None:
        self.cfg, self.shape = cfg, shape
        self.finest = cfg.generator.n_scales_spatial - 1
        self.tasks: list[Task] = []
        self.foregrounds: dict[tuple[int, int, int], int] = {}  # task numbers by lane, frame and scale
        self.backwards: list[list[int]] = []  # task numbers of the generator's backward passes, lane after lane

    def add(self, kind: Kind, site: Site, *, frames: tuple[int, ...] = (), units: float = 1.0,
            needs: Iterable[Need] = (), carried: tuple[str, ...] = ()) -> Task:
        scale = int(site.role.removeprefix("temporal_")) if site.role.startswith("temporal_") else site.scale
        task = Task(len(self.tasks), kind, site.role, site.lane, frames, scale, site, units, list(needs), carried)
        self.tasks.append(task)
        return task

    def temporal(self, chunk: LaneChunk) -> TemporalPlan:
        return temporal_plan(self.cfg.discriminator, chunk.n_seen, chunk.n_frames)

    def add_lane(self, lane: int, chunk: LaneChunk) -> None:
        flows = {} if self.shape.flow_ready else self.add_flows(lane, chunk, ahead=False)
        made = self.add_frames(lane, chunk.n_frames)
        gradients: dict[int, list[Need]] = {t: [] for t in range(chunk.n_frames)}
        self.add_flow_losses(lane, made, flows, gradients)
        self.add_image(lane, made, gradients)
        self.add_temporal(lane, chunk, made, flows, gradients)
        if not self.cfg.loss.no_vgg:
            self.add_perceptual(lane, made, gradients)
        self.add_backwards(lane, made, gradients)

    def add_flows(self, lane: int, chunk: LaneChunk, ahead: bool) -> dict[tuple[int, int], Task]:
        """Reference flows by (-1, frame), and by (temporal scale, number) between frames that it skips."""
        flows: dict[tuple[int, int], Task] = {}
        part = "ahead" if ahead else ""
        for t in range(chunk.n_frames):
            flow = self.add(Kind.FLOW, Site("flow", lane, t, 0, part), frames=(t,))
            flows[-1, t] = flow
            readers = [Site("generator", lane, t, self.finest)]
            readers += [Site(f"temporal_{s}", lane) for s in range(self.cfg.discriminator.n_scales_temporal)
                        if s == 0 or self.cfg.discriminator.sparse_D]
            flow.carries = [("reference", site) for site in readers if ahead or site.role != "generator"]
        n_flows = chunk.n_frames
        for s, groups in enumerate(self.temporal(chunk).scales):
            if groups.skips_frames:
                for number in range(sum(map(len, groups.flow_pairs))):
                    flow = self.add(Kind.SKIPPED_FLOW, Site("flow", lane, n_flows, s, part), frames=(number,))
                    flow.carries = [("skipped_flow", Site(f"temporal_{s}", lane))] if ahead else []
                    flows[s, number] = flow
                    n_flows += 1
        return flows

    def add_frames(self, lane: int, n_frames: int) -> list[list[Task]]:
        """Label, foreground and synthesis tasks; returns the last by frame and scale."""
        n_past = self.cfg.generator.n_frames_G - 1
        made: list[list[Task]] = []
        limit = self.shape.in_flight
        earlier = self.backwards[-limit] if 0 < limit <= len(self.backwards) else []
        for t in range(n_frames):
            made.append([])
            for s in range(self.finest + 1):
                site = Site("generator", lane, t, s)
                label = self.add(Kind.LABEL, site, frames=(t,))
                label.after = list(earlier)
                needs = [Need(label.number)]
                if self.cfg.generator.fg:
                    coarse = [Need(self.foregrounds[lane, t, s - 1], (f"fg_features/{s - 1}",))] if s else []
                    foreground = self.add(Kind.FOREGROUND, replace(site, part="foreground"), frames=(t,), needs=coarse)
                    foreground.after = list(earlier)
                    self.foregrounds[lane, t, s] = foreground.number
                    needs.append(Need(foreground.number, (f"foreground/{s}",)))
                needs += [Need(made[t][s - 1].number, (f"features/{s - 1}",))] if s else []
                needs += [Need(made[p][s].number, (f"image/{s}",)) for p in range(max(0, t - n_past), t)]
                made[t].append(self.add(Kind.SYNTHESIS, site, frames=(t,), needs=needs,
                                        carried=(f"image/{s}",) if t < n_past else ()))
        for s in range(self.finest + 1):
            for t in range(max(0, n_frames - n_past), n_frames):
                # Frame t is in the history of the next chunk's first frames, down to n_past frames on.
                heirs = range(min(n_past - (n_frames - 1 - t), n_frames))
                made[t][s].carries = [(f"image/{s}", Site("generator", lane, heir, s)) for heir in heirs]
        return made

    def add_flow_losses(self, lane: int, made: list[list[Task]], flows: dict[tuple[int, int], Task],
                        gradients: dict[int, list[Need]]) -> None:
        for t, frame in enumerate(made):
            needs = [Need(frame[-1].number)]
            needs += [Need(made[t - 1][-1].number, (f"image/{self.finest}",))] if t else []
            needs += [Need(flows[-1, t].number, ("reference",))] if flows else []
            carried = () if flows else ("reference",)
            site = Site("generator", lane, t, self.finest)
            loss = self.add(Kind.FLOW_LOSS, site, frames=(t,), needs=needs, carried=carried)
            loss.scale = 0
            gradients[t].append(Need(loss.number))

    def packet(self, prefix: str = "") -> tuple[str, ...]:
        """What a critic of both kinds of frames is sent, or sends back."""
        return (f"{prefix}image/{self.finest}", *(() if self.cfg.generator.no_flow else (f"{prefix}raw",)))

    def add_image(self, lane: int, made: list[list[Task]], gradients: dict[int, list[Need]]) -> None:
        per_pass = self.cfg.discriminator.frames_per_pass or len(made)
        for index, start in enumerate(range(0, len(made), per_pass)):
            frames = tuple(range(start, min(start + per_pass, len(made))))
            site, units = Site("image", lane, index), len(frames)
            real = self.add(Kind.IMAGE_REAL, site, frames=frames, units=units)
            seen = [Need(made[t][-1].number, self.packet()) for t in frames]
            fake = self.add(Kind.IMAGE_FAKE, site, frames=frames, units=units, needs=[Need(real.number), *seen])
            self.add(Kind.IMAGE_BACKWARD, site, frames=frames, units=units, needs=[Need(fake.number)])
            for t in frames:
                gradients[t].append(Need(fake.number, self.packet("grad_")))

    def add_temporal(self, lane: int, chunk: LaneChunk, made: list[list[Task]], flows: dict[tuple[int, int], Task],
                     gradients: dict[int, list[Need]]) -> None:
        image, n_kept = f"image/{self.finest}", frames_kept(self.cfg.discriminator, chunk.n_seen)
        for s, groups in enumerate(self.temporal(chunk).scales):
            site = Site(f"temporal_{s}", lane)
            judged = sorted({i - n_kept for group in groups.frames for i in group if i >= n_kept})
            for t in range(max(0, len(made) - self.temporal(chunk).keep), len(made)):
                made[t][-1].carries.append((image, site))  # for the groups of later chunks
            if not groups.frames:
                continue
            current = {i - n_kept for pairs in groups.flow_pairs for i, _ in pairs if i >= n_kept}
            if groups.skips_frames:
                read = [Need(flow.number, ("skipped_flow",)) for (scale, _), flow in flows.items() if scale == s]
            else:
                read = [Need(flows[-1, t].number, ("reference",)) for t in sorted(current) if flows]
            units = len(groups.frames)
            carried = ("skipped_flow" if groups.skips_frames else "reference",)
            real = self.add(Kind.TEMPORAL_REAL, site, units=units, needs=read, carried=carried)
            seen = [Need(made[t][-1].number, (image,)) for t in judged]
            fake = self.add(Kind.TEMPORAL_FAKE, site, frames=tuple(judged), units=units,
                            needs=[Need(real.number), *seen], carried=(image,))
            self.add(Kind.TEMPORAL_BACKWARD, site, units=units, needs=[Need(fake.number)])
            for t in judged:
                gradients[t].append(Need(fake.number, (f"grad_{image}",)))

    def add_perceptual(self, lane: int, made: list[list[Task]], gradients: dict[int, list[Need]]) -> None:
        for t, frame in enumerate(made):
            site = Site("perceptual", lane, t)
            real = self.add(Kind.PERCEPTUAL_REAL, site, frames=(t,))
            seen = Need(frame[-1].number, self.packet())
            fake = self.add(Kind.PERCEPTUAL_FAKE, site, frames=(t,), needs=[Need(real.number), seen])
            gradients[t].append(Need(fake.number, self.packet("grad_")))

    def add_backwards(self, lane: int, made: list[list[Task]], gradients: dict[int, list[Need]]) -> None:
        """Last frame first, finest scale first. Later frames that read a frame un-detached come before it."""
        done: dict[tuple[int, int], Task] = {}
        self.backwards.append([])
        for t in reversed(range(len(made))):
            foreground: Task | None = None
            for s in reversed(range(self.finest + 1)):
                if s < self.finest and not self.shape.train_all_scales:
                    break
                later = [Need(done[r, s].number, (f"grad_image/{s}",)) for r in self.readers(t, len(made))]
                judged = gradients[t] if s == self.finest else []
                finer = [Need(done[t, s + 1].number, (f"grad_features/{s}",))] if s < self.finest else []
                site = Site("generator", lane, t, s)
                done[t, s] = self.add(Kind.BACKWARD, site, frames=(t,),
                                      needs=[Need(made[t][s].number), *judged, *finer, *later])
                self.backwards[-1].append(done[t, s].number)
                if self.cfg.generator.fg:
                    # Its gradient is the frame's, masked, so it waits for the same critics and not for BACKWARD.
                    needs = [Need(self.foregrounds[lane, t, s])]
                    needs += [Need(need.task, need.tensors or (f"grad_image/{s}",)) for need in judged] + later
                    if foreground is not None:
                        needs.append(Need(foreground.number, (f"grad_fg_features/{s}",)))
                    foreground = self.add(Kind.FOREGROUND_BACKWARD, replace(site, part="foreground"), frames=(t,),
                                          needs=needs)
                    self.backwards[-1].append(foreground.number)

    def readers(self, t: int, n_frames: int) -> Iterator[int]:
        """Later frames of the chunk through which a gradient comes back to frame t (spec: losses 6)."""
        for later in range(t + 1, min(t + self.cfg.generator.n_frames_G, n_frames)):
            if later % self.shape.n_frames_bp:
                yield later

    def add_updates(self) -> None:
        sources: dict[str, list[Need]] = {}
        for task in self.tasks:
            if task.kind in INTO_WEIGHTS:
                roles = [task.role]
                if task.role == "image" and self.cfg.discriminator.add_face_disc:
                    roles.append("face")
                for role in roles:
                    sources.setdefault(role, []).append(Need(task.number))
        for role, needs in sources.items():
            reduce = Task(len(self.tasks), Kind.REDUCE, role, needs=needs)
            update = Task(len(self.tasks) + 1, Kind.UPDATE, role, needs=[Need(reduce.number)])
            self.tasks += [reduce, update]
