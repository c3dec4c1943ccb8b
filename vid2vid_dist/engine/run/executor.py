"""Runs one rank's program of a step: its tasks in the planned order, messages in between, then the updates.

This is the only way to take a step. A rank alone, and every rank of a data-parallel run, is a pipeline of one slot
whose program has no messages. All losses of a step use the weights from before it: roles are updated when all tasks
are done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from vid2vid_dist.engine.plan.role import GENERATOR
from vid2vid_dist.engine.plan.schedule import Plan, Run, Transfer
from vid2vid_dist.engine.plan.tasks import Bucket, Kind, Site, StepShape, Task
from vid2vid_dist.engine.plan.tensors import TensorKind, TensorShape
from vid2vid_dist.engine.plan.text import excerpt
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.streams import Beside
from vid2vid_dist.engine.run.tensor_store import LanePart, Shown, ShownFrame, TaskTensors, TensorStore
from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.engine.run.updates import MayUpdate, Updates, always
from vid2vid_dist.errors import LostRankError, UserError


class Role(Protocol):
    """A role at work."""

    @property
    def engine(self) -> RoleEngine | None:
        """Its weights and their optimiser; None where nothing is trained."""

    def run(self, task: Task, step: TensorStore) -> TaskTensors:
        """Do a task, from what `step` has for it; returns what it makes for others."""


class TaskError(RuntimeError):
    """A task failed: names step and task, and why, with the program around it."""


@dataclass
class StepResult:
    """Losses and squared norms of a rank's tasks (`TensorStore`), which add up over ranks. `shown`: by frame of the
    chunk. `updated`: False if the weights are as before."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    squared_norms: dict[str, Tensor] = field(default_factory=dict)
    shown: list[ShownFrame] = field(default_factory=list)
    updated: bool = True


class Executor:
    """One rank of a pipeline."""

    def __init__(self, roles: Mapping[str, Role], shapes: Mapping[TensorKind, TensorShape], slot: int,
                 transport: Transport, dtype: torch.dtype, reductions: Sequence[Bucket]) -> None:
        """`reductions`: all of `RoleSpecs.buckets`, in the order that every rank keeps to. Every rank makes its
        executor at the same time."""
        self.reductions = reductions
        self.beside = Beside(transport.grid.device, alone=transport.grid.world_size == 1)
        self.roles, self.shapes, self.slot, self.transport, self.dtype = roles, shapes, slot, transport, dtype
        self.timer = Timer()

    def engines(self) -> dict[str, RoleEngine]:
        """Of the trained roles that this rank holds, in the order in which they are reduced."""
        held = {name: role.engine for name, role in self.roles.items() if role.engine is not None}
        found = {bucket.role: held[bucket.role] for bucket in self.reductions if bucket.role in held}
        assert found.keys() == held.keys(), "a role that is never reduced is never trained"
        return found

    def step(self, plan: Plan, shape: StepShape, lanes: Sequence[LanePart | None], active: Sequence[str],
             shown: Shown | None = None, may_update: MayUpdate = always) -> StepResult:
        """Run one step.

        `lanes`: the lanes of this pipeline, None for one that rests; `shape` is what the plan was made for.
        `active`: the trained roles that have something to compute somewhere in the run, the same on all ranks.
        """
        store = TensorStore(plan, shape, self.slot, lanes, self.shapes, self.transport, self.dtype, self.timer, shown)
        program = plan.programs_in([bucket for bucket in self.reductions if bucket.role in active])[self.slot]
        updates = Updates({name: engine for name, engine in self.engines().items() if name in active}, self.timer,
                          self.beside)
        for index, op in enumerate(program):
            try:
                if isinstance(op, Transfer):
                    (store.send if op.source == self.slot else store.receive)(op)
                elif op.task.kind == Kind.REDUCE:
                    updates.reduce(op.task)
                elif op.task.kind != Kind.UPDATE:
                    self._run(op.task, store)
            except LostRankError as error:
                raise type(error)(f"{error}\n{excerpt(plan, self.slot, program, index)}") from error
            except UserError:
                raise
            except Exception as error:
                what = op.task.name if isinstance(op, Run) else "a message"
                raise TaskError(f"step {self.transport.step}, {what}: {str(error) or type(error).__name__}\n"
                                f"{excerpt(plan, self.slot, program, index)}") from error
        store.finish()
        collected = [] if shown is None else self._collect(store, shown)
        updated = updates.finish(store.losses, may_update)
        self.transport.step += 1
        return StepResult(store.losses, store.squared_norms, collected, updated)

    def _run(self, task: Task, store: TensorStore) -> None:
        store.fetch(task)
        with self.timer.span(task.name, task.cost_key, task.units):
            made = self.roles[task.role].run(task, store)
        store.done(task, made)

    def _collect(self, store: TensorStore, shown: Shown) -> list[ShownFrame]:
        """On slot 0 the frames of the lane that is shown, from wherever they were made."""
        names, like = [kind.what for kind in shown.kinds], store.expected(shown.lane, shown.kinds)
        finest = max(kind.scale for kind in shown.kinds)
        frames = []
        for t in range(store.lane(shown.lane).n_frames):
            slot = store.plan.assignment[Site(GENERATOR, shown.lane, t, finest)]
            if self.slot == slot == 0:
                frames.append(store.shown_frames[t])
            elif self.slot == slot:
                self.transport.send(0, [store.shown_frames[t][name] for name in names], f"picture {t}").wait()
            elif self.slot == 0:
                frames.append(dict(zip(names, self.transport.receive(slot, like, f"picture {t}").wait(), strict=True)))
        return frames
