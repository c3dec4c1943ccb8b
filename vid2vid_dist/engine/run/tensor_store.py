"""The tensors of one step on one rank: those of its tasks and those on their way, and who still reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.messages import Part, dtype_of, message_parts, parts_for, shape_of
from vid2vid_dist.engine.plan.schedule import Plan, Transfer
from vid2vid_dist.engine.plan.tasks import Kind, Site, Task
from vid2vid_dist.engine.roles.roles import CriticResult
from vid2vid_dist.engine.run.clip import ClipBuffer
from vid2vid_dist.engine.run.timing import WAIT, Timer
from vid2vid_dist.engine.run.transport import Pending, Transport

TaskTensors = dict[Part, Tensor]
"""What a task gives to others, without graph."""


class Read(NamedTuple):
    """A tensor of another task of this step."""

    producer: Task
    name: str
    tensor: Tensor


class LanePart(NamedTuple):
    """A lane's part in the step: its clip on this rank, frames to generate, its clips over all clips of the step."""

    buffer: ClipBuffer
    n_frames: int
    share: float


class TensorStore:
    """One step of one rank. `sites`: what a site's tasks hand on to each other, graphs included.

    `shown`: frames (B, C, H, W) of one lane for pictures, by frame of the chunk: image, raw, flow and weight if
    there are such, reference flow and confidence.
    """

    def __init__(self, cfg: Config, plan: Plan, slot: int, lanes: list[LanePart | None], transport: Transport,
                 dtype: torch.dtype, show: int | None, timer: Timer) -> None:
        self.plan, self.slot, self.show = plan, slot, show
        self.shown: dict[int, Tensor] = {}
        self.sites: dict[Site, Any] = {}
        self.losses: dict[str, Tensor] = {}
        self.squared_norms: dict[str, Tensor] = {}
        self._cfg, self._lanes, self._transport, self._dtype = cfg, lanes, transport, dtype
        self._timer = timer
        self._here: dict[int, TaskTensors] = {}
        self._coming: dict[int, tuple[list[Part], Pending]] = {}
        self._going: list[Pending] = []
        self._parts = message_parts(plan)
        self._readers = Counter(need.task for task in plan.tasks if self._is_mine(task.site) for need in task.needs
                                if need.tensors)
        self._inherited = [(task, name, site) for task in plan.tasks for name, site in task.carries
                           if self._is_mine(site) and not self._is_mine(task.site)]
        self._readers.update(task.number for task, _, _ in self._inherited)
        self._readers.update(item.producer for item in plan.sequence
                             if isinstance(item, Transfer) and item.source == slot)

    def _is_mine(self, site: Site | None) -> bool:
        return site is not None and self.plan.placement[site] == self.slot

    def lane(self, number: int) -> LanePart:
        part = self._lanes[number]
        assert part is not None, f"lane {number} rests"
        return part

    def frame(self, task: Task, index: int) -> int:
        """A frame of the task's chunk, counted from the start of the clip."""
        part = self.lane(task.lane)
        return part.buffer.n_seen + index + (part.n_frames if task.is_ahead else 0)

    def nothing(self, task: Task, name: str) -> Tensor:
        """Zeros in place of a tensor of the task's lane that nobody makes."""
        return torch.zeros(shape_of(self._cfg, name, self.lane(task.lane).buffer.size),
                           dtype=dtype_of(name, self._dtype), device=self._transport.device)

    def add_losses(self, losses: dict[str, Tensor]) -> None:
        """Losses with their weight in the step's."""
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, torch.zeros_like(loss)) + loss

    def add_squared_norm(self, critic: str, result: CriticResult) -> None:
        """The squared norm of a critic's gradients to frames, its weight in the step's loss included."""
        new = result.squared_norm()
        self.squared_norms[critic] = self.squared_norms.get(critic, torch.zeros_like(new)) + new

    def fetch(self, task: Task) -> None:
        """Wait until everything that a task reads of others is here."""
        for need in task.needs:
            if need.tensors:
                self._of(need.task)

    def reads(self, task: Task) -> Iterator[Read]:
        """The tensors that a task reads of others."""
        for need in task.needs:
            for part in parts_for(task, need.tensors):
                yield Read(self.plan.tasks[need.task], part.name, self._of(need.task)[part])

    def done(self, task: Task, made: TaskTensors) -> None:
        """Store what a task has made, hand on what the next step starts from, free what nobody reads any more."""
        if self._readers[task.number]:
            self._here[task.number] = made
        for name, site in task.carries:
            if self._is_mine(site):
                self._carry(task, name, site, made[Part(name)])
        for need in task.needs:
            if need.tensors:
                self._put_away(need.task)
        self._going = [message for message in self._going if not message.is_done]

    def send(self, transfer: Transfer) -> None:
        made, parts = self._here[transfer.producer], self._parts[transfer.producer, transfer.destination]
        tensors = [made[part] for part in parts]
        expected = self._expected(transfer, parts)
        assert [(tuple(x.shape), x.dtype) for x in tensors] == expected, (transfer, expected)
        self._going.append(self._transport.send(transfer.destination, tensors, self._name(transfer)))
        self._put_away(transfer.producer)

    def receive(self, transfer: Transfer) -> None:
        parts = self._parts[transfer.producer, transfer.destination]
        message = self._transport.receive(transfer.source, self._expected(transfer, parts), self._name(transfer))
        self._coming[transfer.producer] = parts, message

    def finish(self) -> None:
        """Keep what other ranks made for the next step; wait until everything sent has been taken."""
        for task, name, site in self._inherited:
            self._carry(task, name, site, self._of(task.number)[Part(name)])
            self._put_away(task.number)
        for message in self._going:
            with self._timer.span(message.what, WAIT):
                message.wait()
        assert not self._coming, "messages that nobody read"

    def _expected(self, transfer: Transfer, parts: list[Part]) -> list[tuple[tuple[int, ...], torch.dtype]]:
        size = self.lane(self.plan.tasks[transfer.producer].lane).buffer.size
        return [(shape_of(self._cfg, part.name, size), dtype_of(part.name, self._dtype)) for part in parts]

    def _name(self, transfer: Transfer) -> str:
        return self.plan.tasks[transfer.producer].name

    def _of(self, number: int) -> TaskTensors:
        if number in self._coming:
            parts, message = self._coming.pop(number)
            with self._timer.span(message.what, WAIT):
                self._here[number] = dict(zip(parts, message.wait(), strict=True))
        return self._here[number]

    def _put_away(self, number: int) -> None:
        self._readers[number] -= 1
        if not self._readers[number]:
            self._here.pop(number, None)

    def _carry(self, task: Task, name: str, site: Site, tensor: Tensor) -> None:
        (index,) = task.frames
        if task.kind == Kind.SKIPPED_FLOW:  # a running number among the chunk's
            name, index = f"{name}/{index}", 0
        self.lane(task.lane).buffer.carry(site, name, self.frame(task, index), tensor)
