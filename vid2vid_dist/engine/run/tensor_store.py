"""The tensors of one step on one rank: those of its tasks and those on their way, and who still reads them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vid2vid_dist.engine.plan.schedule import Plan, Transfer
from vid2vid_dist.engine.plan.tasks import Site, StepShape, Task
from vid2vid_dist.engine.plan.tensors import Part, TensorKind, TensorShape, What
from vid2vid_dist.engine.run.clip import ClipInFlight
from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.engine.run.transport import Pending, Transport

TaskTensors = dict[Part, Tensor]
"""What a task gives to others, without graph."""


class LanePart(NamedTuple):
    """A lane's part in the step: its clip on this rank, frames to generate, its clips over all clips of the step."""

    clip: ClipInFlight
    n_frames: int
    share: float


ShownFrame = dict[What, Tensor]
"""One generated frame (B, C, H, W) and what belongs to it, without graph."""


@dataclass(frozen=True)
class Shown:
    """A lane of which rank 0 of the pipeline gets the frames, and what of them."""

    lane: int
    kinds: tuple[TensorKind, ...]


class TensorStore:
    """One step of one rank: what roles work with.

    `sites`: what a site's tasks hand on to each other, graphs included. `losses` and `squared_norms`, of the critics'
    gradients to the colours of frames, carry their weights in the step: summed over all ranks they are the step's.
    """

    def __init__(self, plan: Plan, shape: StepShape, slot: int, lanes: Sequence[LanePart | None],
                 shapes: Mapping[TensorKind, TensorShape], transport: Transport, dtype: torch.dtype,
                 timer: Timer, shown: Shown | None = None) -> None:
        self.plan, self.shape = plan, shape
        self.shown_frames: dict[int, ShownFrame] = {}
        self._shown = shown
        self.sites: dict[Site | None, Any] = {}
        self.losses: dict[str, Tensor] = {}
        self.squared_norms: dict[str, Tensor] = {}
        self._slot, self._lanes, self._shapes, self._transport, self._dtype = slot, lanes, shapes, transport, dtype
        self._timer = timer
        self._here: dict[int, TaskTensors] = {}
        self._coming: dict[int, tuple[tuple[Part, ...], Pending]] = {}
        self._going: list[Pending] = []
        self._readers = Counter(need.task for tasks in plan.by_lane[slot].values() for task in tasks
                                for need in task.needs if need.parts)
        self._inherited = [(task, part) for task in plan.tasks for part, site in task.to_next_step
                           if task.site and plan.assignment[site] == slot != plan.assignment[task.site]]
        self._readers.update(task.number for task, _ in self._inherited)
        self._readers.update(item.producer for item in plan.sequence
                             if isinstance(item, Transfer) and item.source == slot)

    def lane(self, number: int) -> LanePart:
        part = self._lanes[number]
        assert part is not None, f"lane {number} rests"
        return part

    def frame(self, task: Task, index: int) -> int:
        """A frame of the task's chunk, counted from the start of the clip."""
        part = self.lane(task.lane)
        return part.clip.n_seen + index + (part.n_frames if task.is_ahead else 0)

    def weight(self, task: Task) -> float:
        """What a task's mean counts in the step's: the lane's part, over the frames that it runs over."""
        return self.lane(task.lane).share * task.fraction

    def key(self, task: Task) -> tuple[int, int]:
        """The step and the lane of the run: what is drawn for a task's clips is a function of these, whoever draws."""
        grid = self._transport.grid
        return self._transport.step, grid.pipeline + task.lane * len(grid.ranks)

    def read(self, task: Task, part: Part) -> Tensor:
        """What a task reads: of this step if it is made in it, else what an earlier one has left."""
        for need in task.needs:
            if part in need.parts:
                return self._of(need.task)[part]
        return self.lane(task.lane).clip.made[part._replace(frame=self.frame(task, part.frame))]

    def zeros(self, task: Task, kind: TensorKind) -> Tensor:
        """In place of a tensor of one frame that nobody makes."""
        ((shape, dtype),) = self.expected(task.lane, [kind])
        return torch.zeros(shape, dtype=dtype, device=self._transport.grid.device)

    def real(self, task: Task, back: int = 0) -> Tensor:
        """The real frames (B, F, 3, H, W) of a task, or those so many frames before."""
        clip = self.lane(task.lane).clip
        return torch.stack([clip.real[self.frame(task, t) - back] for t in task.frames], dim=1)

    def stack(self, task: Task, kind: TensorKind) -> Tensor:
        """The task's frames of a kind (B, F, C, h, w)."""
        return torch.stack([self.read(task, Part(kind, t)) for t in task.frames], dim=1)

    def gradients(self, task: Task) -> dict[TensorKind, Tensor]:
        """The gradients that a task reads, those of all critics added up, by what they are gradients of."""
        found: dict[TensorKind, Tensor] = {}
        for need in task.needs:
            for part in need.parts:
                if part.kind.is_gradient:
                    of, gradient = part.kind._replace(is_gradient=False), self._of(need.task)[part]
                    found[of] = found[of] + gradient if of in found else gradient
        return found

    def hand_in(self, task: Task, losses: Mapping[str, Tensor], gradients: Mapping[TensorKind, Tensor]) -> TaskTensors:
        """Note a critic's losses; its gradients (B, F, C, h, w) frame by frame, with their weight in the step."""
        weight = self.weight(task)
        for name, loss in losses.items():
            _add(self.losses, name, scaled(loss.detach(), weight))
        made: TaskTensors = {}
        colours = []
        for kind, unweighted in gradients.items():
            gradient = scaled(unweighted, weight)
            made |= {Part(kind.gradient, t): x for t, x in zip(task.frames, gradient.unbind(1), strict=True)}
            if kind.what in (What.IMAGE, What.RAW):
                wide = torch.promote_types(gradient.dtype, torch.float32)
                colours.append(torch.linalg.vector_norm(gradient, dtype=wide))
        if colours:
            _add(self.squared_norms, task.role, torch.stack(colours).square().sum())
        return made

    def show(self, task: Task, parts: Mapping[Part, Tensor]) -> None:
        """Offer tensors for pictures; kept if the task's lane is shown."""
        if self._shown is not None and task.lane == self._shown.lane:
            for part, tensor in parts.items():
                if part.kind in self._shown.kinds:
                    self.shown_frames.setdefault(part.frame, {})[part.kind.what] = tensor

    def fetch(self, task: Task) -> None:
        """Wait until everything that a task reads of others is here."""
        for need in task.needs:
            if need.parts:
                self._of(need.task)

    def done(self, task: Task, made: TaskTensors) -> None:
        """Store what a task has made, hand on what the next step starts from, free what nobody reads any more."""
        if self._readers[task.number]:
            self._here[task.number] = made
        for part, site in task.to_next_step:
            if self.plan.assignment[site] == self._slot:
                self._keep(task, part, made[part])
        for need in task.needs:
            if need.parts:
                self._put_away(need.task)
        self._going = [message for message in self._going if not message.is_done]

    def send(self, transfer: Transfer) -> None:
        task, made = self.plan.tasks[transfer.producer], self._here[transfer.producer]
        tensors = [made[part] for part in transfer.parts]
        expected = self.expected(task.lane, [part.kind for part in transfer.parts])
        assert [(tuple(x.shape), x.dtype) for x in tensors] == expected, (transfer, expected)
        self._going.append(self._transport.send(transfer.destination, tensors, task.name))
        self._put_away(transfer.producer)

    def receive(self, transfer: Transfer) -> None:
        task = self.plan.tasks[transfer.producer]
        expected = self.expected(task.lane, [part.kind for part in transfer.parts])
        message = self._transport.receive(transfer.source, expected, task.name)
        self._coming[transfer.producer] = transfer.parts, message

    def finish(self) -> None:
        """Keep what other ranks made for the next step; wait until everything sent has been taken."""
        for task, part in self._inherited:
            self._keep(task, part, self._of(task.number)[part])
            self._put_away(task.number)
        for message in self._going:
            with self._timer.span(message.what):
                message.wait()
        assert not self._coming, "messages that nobody read"

    def expected(self, lane: int, kinds: Sequence[TensorKind]) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Shapes and number formats of tensors of one frame."""
        size = self.lane(lane).clip.size
        return [(self._shapes[kind].of(size), self._shapes[kind].dtype(self._dtype)) for kind in kinds]

    def _of(self, number: int) -> TaskTensors:
        if number in self._coming:
            parts, message = self._coming.pop(number)
            with self._timer.span(message.what):
                self._here[number] = dict(zip(parts, message.wait(), strict=True))
        return self._here[number]

    def _put_away(self, number: int) -> None:
        self._readers[number] -= 1
        if not self._readers[number]:
            self._here.pop(number, None)

    def _keep(self, task: Task, part: Part, tensor: Tensor) -> None:
        self.lane(task.lane).clip.made[part._replace(frame=self.frame(task, part.frame))] = tensor


def scaled(x: Tensor, factor: float) -> Tensor:
    """`factor * x`; of a step of one clip most factors are 1, and cost nothing."""
    return x if factor == 1 else factor * x


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value
