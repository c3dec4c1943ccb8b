"""Runs one rank's program of a step: its tasks in the planned order, messages in between, then the updates.

All losses of a step use the weights from before it: roles are updated when all tasks are done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.schedule import Plan, Receive, Run, Send
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, Site, StepShape, Task
from vid2vid_dist.engine.roles.critic_tasks import FlowTasks, ImageTasks, PerceptualTasks, TemporalTasks
from vid2vid_dist.engine.roles.discriminator_roles import ImageDiscriminatorRole, TemporalDiscriminatorRole
from vid2vid_dist.engine.roles.frame_tasks import FrameTasks
from vid2vid_dist.engine.roles.roles import FlowRole, GeneratorRole, PerceptualRole
from vid2vid_dist.engine.run.finite_check import MayUpdate, always
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.tensor_store import LanePart, TensorStore
from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.engine.run.updates import Updates
from vid2vid_dist.errors import LostRankError, UserError
from vid2vid_dist.models.temporal import frames_kept


@dataclass
class HeldRoles:
    """The roles that a rank holds; None and missing ones are elsewhere."""

    generator: GeneratorRole | None = None
    image: ImageDiscriminatorRole | None = None
    temporal: dict[int, TemporalDiscriminatorRole] = field(default_factory=dict)  # by temporal scale
    perceptual: PerceptualRole | None = None
    flow: FlowRole | None = None

    def engines(self) -> dict[str, RoleEngine]:
        """The trained ones by name, in the order in which they step."""
        found = {} if self.generator is None else {"generator": self.generator.engine}
        if self.image is not None:
            found["image"] = self.image.engine
            if self.image.face_engine is not None:
                found["face"] = self.image.face_engine
        return found | {f"temporal_{scale}": role.engine for scale, role in sorted(self.temporal.items())}


Worker = FrameTasks | ImageTasks | TemporalTasks | PerceptualTasks | FlowTasks


class TaskError(RuntimeError):
    """A task failed: names step and task, and why."""


@dataclass
class PlacedResult:
    """Losses of a rank's tasks, which summed over all ranks are means over clips; squared norms of the critics'
    gradients to its frames (`CriticResult.squared_norm`), which add up likewise. `shown`: see `TensorStore.shown`.
    `updated`: False if the weights are as before.
    """

    losses: dict[str, Tensor]
    squared_norms: dict[str, Tensor]
    shown: list[Tensor]
    updated: bool


class Executor:
    """One rank of a pipeline."""

    def __init__(self, cfg: Config, roles: HeldRoles, slot: int, transport: Transport, dtype: torch.dtype,
                 reductions: Sequence[str] = ()) -> None:
        """`reductions`: the order in which roles are reduced, the same on all ranks (`Plan.reductions` of any step);
        roles that are missing in it come first."""
        self.reductions = reductions
        self.cfg, self.roles, self.slot, self.transport, self.dtype = cfg, roles, slot, transport, dtype
        self.timer = Timer()

    def step(self, plan: Plan, shape: StepShape, lanes: list[LanePart | None], active: list[str],
             show: int | None = None, may_update: MayUpdate = always) -> PlacedResult:
        """Run one step.

        `lanes`: the lanes of this pipeline, None for one that rests; `shape` is what the plan was made for.
        `active`: the trained roles that have something to compute somewhere in the run, the same on all ranks.
        `show`: a lane of which slot 0 gets all frames, for pictures.
        """
        store = TensorStore(self.cfg, plan, self.slot, lanes, self.transport, self.dtype, show, self.timer)
        workers = self._workers(shape, store)
        program = plan.programs[self.slot]
        mine = [op.task.role for op in program if isinstance(op, Run) and op.task.kind not in COLLECTIVE]
        held = {name: engine for name, engine in self.roles.engines().items() if name in active}
        order = sorted(held, key=lambda name: self.reductions.index(name) if name in self.reductions else -1)
        engines = {name: held[name] for name in order}
        updates = Updates(engines, Counter(mine), self.timer, self.transport.device)
        for op in program:
            if isinstance(op, Send):
                store.send(op.transfer)
            elif isinstance(op, Receive):
                store.receive(op.transfer)
            elif op.task.kind not in COLLECTIVE:
                self._run(op.task, workers[op.task.role], store)
                updates.done(op.task.role)
        store.finish()
        shown = self._collect(store, lanes)
        updated = updates.finish(store.losses, may_update)
        self._advance(lanes)
        self.transport.step += 1
        return PlacedResult(store.losses, store.squared_norms, shown, updated)

    def _collect(self, store: TensorStore, lanes: list[LanePart | None]) -> list[Tensor]:
        """On slot 0 the frames that are to be shown."""
        part = None if store.show is None else lanes[store.show]
        if store.show is None or part is None:
            return []
        size, finest = part.buffer.size, self.cfg.generator.n_scales_spatial - 1
        shape = (size.clips, 9 if self.cfg.generator.no_flow else 12, size.height, size.width)
        like = [(shape, torch.promote_types(self.dtype, torch.float32))]
        frames = []
        for t in range(part.n_frames):
            slot = store.plan.placement[Site("generator", store.show, t, finest)]
            if self.slot == slot == 0:
                frames.append(store.shown[t])
            elif self.slot == slot:
                self.transport.send(0, [store.shown[t]], f"picture {t}").wait()
            elif self.slot == 0:
                frames += self.transport.receive(slot, like, f"picture {t}").wait()
        return frames

    def _run(self, task: Task, worker: Worker, store: TensorStore) -> None:
        try:
            store.fetch(task)
            with self.timer.span(task.name, task.cost_key, task.units):
                made = worker.run(task)
            store.done(task, made)
        except (UserError, LostRankError):
            raise
        except Exception as error:
            raise TaskError(f"step {self.transport.step}, {task.name}: {str(error) or type(error).__name__}") from error

    def _workers(self, shape: StepShape, store: TensorStore) -> dict[str, Worker]:
        """Who runs the tasks of each role."""
        cfg, roles = self.cfg, self.roles
        found: dict[str, Worker] = {
            f"temporal_{scale}": TemporalTasks(cfg, role, store) for scale, role in roles.temporal.items()}
        if roles.generator is not None:
            found["generator"] = FrameTasks(cfg, roles.generator, shape, store)
        if roles.image is not None:
            found["image"] = ImageTasks(cfg, roles.image, store)
        if roles.perceptual is not None:
            found["perceptual"] = PerceptualTasks(cfg, roles.perceptual, store)
        if roles.flow is not None:
            found["flow"] = FlowTasks(cfg, roles.flow, store)
        return found

    def _advance(self, lanes: list[LanePart | None]) -> None:
        for part in lanes:
            if part is not None:
                kept = frames_kept(self.cfg.discriminator, part.buffer.n_seen + part.n_frames)
                part.buffer.advance(part.n_frames, self.cfg.generator.n_frames_G - 1, kept)
