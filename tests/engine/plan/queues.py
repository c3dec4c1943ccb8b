"""Can a plan hang on a GPU? A model of its streams and hardware queues.

On a GPU a rank is a few streams that work in order, dealt out to a few hardware queues (CUDA_DEVICE_MAX_CONNECTIONS)
that are first in, first out: what waits at the head of a queue holds up all behind it, of whatever stream. A message
or a reduction that has started occupies its stream until all its slots have started it.

A plan is one sequence, and every slot issues its slice of it in order. So the earliest operation that is not done can
always go on, and nothing hangs, even on a single queue; `stuck` shows it.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

from vid2vid_dist.engine.plan.collection import without_collection
from vid2vid_dist.engine.plan.schedule import Plan, Run, Transfer
from vid2vid_dist.engine.plan.tasks import Bucket, Kind, Task

POOL = 32  # streams that PyTorch has for communicators and others, besides the one of the tasks; more share them
TASKS, BESIDE = "tasks", "beside"


class Kernel(NamedTuple):
    """Work in a stream. `slots`: done when all these have started it."""

    stream: str
    name: str
    slots: tuple[int, ...]


class Wait(NamedTuple):
    """A stream waits for a kernel that this slot has issued before."""

    stream: str
    kernel: str


Command = Kernel | Wait


class Issued:
    """What the host of a slot issues, in order."""

    def __init__(self, plan: Plan, slot: int) -> None:
        self.plan, self.slot = plan, slot
        self.commands: list[Command] = []
        self._last_task = ""
        self._received: dict[int, str] = {}  # by producer

    def message(self, transfer: Transfer) -> None:
        """Either end: the communicator's stream follows the tasks issued so far."""
        way = f"{transfer.source}>{transfer.destination}"
        name = f"message {way} of {_name(self.plan.tasks[transfer.producer])}"
        self._follow_tasks(way)
        self.commands.append(Kernel(way, name, (transfer.source, transfer.destination)))
        if self.slot == transfer.destination:
            self._received[transfer.producer] = name

    def task(self, run: Run) -> None:
        """A task waits for the messages that it reads."""
        for need in run.task.needs:
            if need.parts and need.task in self._received:
                self.commands.append(Wait(TASKS, self._received.pop(need.task)))
        self._last_task = _name(run.task)
        self.commands.append(Kernel(TASKS, self._last_task, (self.slot,)))

    def reduction(self, bucket: Bucket, stream: str = BESIDE) -> None:
        """A collective in its communicator's stream, issued from `stream`, which waits for it."""
        self._follow_tasks(stream)
        begin, reduce = f"slot {self.slot} begins reducing {bucket}", f"reduce {bucket}"
        group = f"holders of {bucket.role}"
        self.commands += [Kernel(stream, begin, (self.slot,)), Wait(group, begin),
                          Kernel(group, reduce, self.plan.layout.slots[bucket.role]), Wait(stream, reduce)]

    def _follow_tasks(self, stream: str) -> None:
        if self._last_task and stream != TASKS:
            self.commands.append(Wait(stream, self._last_task))


def _name(task: Task) -> str:
    return f"task {task.number}, {task.name}"


@without_collection()
def issued(plan: Plan, slot: int, turn: Sequence[Bucket]) -> list[Command]:
    """What a slot issues as the engine does it, with the reductions `turn` in that order."""
    found = Issued(plan, slot)
    for op in plan.programs_in(turn)[slot]:
        if isinstance(op, Transfer):
            found.message(op)
        elif op.task.kind == Kind.REDUCE:
            found.reduction(op.task.reduces)
        elif op.task.kind != Kind.UPDATE:
            found.task(op)
    return found.commands


@without_collection()
def stuck(commands: Sequence[Sequence[Command]], n_queues: int) -> list[str]:
    """What each queue that hangs stands at, of the commands of all slots; nothing if all are done."""
    queues = [queue for of_slot in commands for queue in _dealt_out(of_slot, n_queues)]
    # By name: slots that have not started the kernel yet, and the queues whose heads wait for that.
    missing = {command.name: len(command.slots) for of_slot in commands for command in of_slot
               if isinstance(command, Kernel)}
    waiting: dict[str, list[int]] = defaultdict(list)
    running: dict[tuple[int, int], str] = {}  # the last kernel of a slot's stream

    def held_up_by(slot: int, stream: int, command: Command) -> str | None:
        before = running.get((slot, stream))
        if before is not None and missing[before]:
            return before
        return command.kernel if isinstance(command, Wait) and missing[command.kernel] else None

    ready = list(range(len(queues)))
    while ready:
        number = ready.pop()
        queue, slot = queues[number], number // n_queues
        while queue:
            stream, command = queue[0]
            kernel = held_up_by(slot, stream, command)
            if kernel is not None:
                waiting[kernel].append(number)
                break
            queue.popleft()
            if isinstance(command, Kernel):
                running[slot, stream] = command.name
                missing[command.name] -= 1
                if not missing[command.name]:
                    ready += waiting.pop(command.name, [])
    return [f"slot {number // n_queues} at {queue[0][1][1]}, {len(queue) - 1} behind"
            for number, queue in enumerate(queues) if queue]


def _dealt_out(commands: Sequence[Command], n_queues: int) -> list[deque[tuple[int, Command]]]:
    """A slot's commands by hardware queue, each with the number of its stream: 0 of the tasks, the others as they are
    first used."""
    streams = {TASKS: 0}
    queues: list[deque[tuple[int, Command]]] = [deque() for _ in range(n_queues)]
    for command in commands:
        stream = streams.setdefault(command.stream, 1 + (len(streams) - 1) % POOL)
        queues[stream % n_queues].append((stream, command))
    return queues
