"""Work beside the tasks. This file is all that knows streams of a GPU; a CPU has a thread in their place."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import SimpleQueue

import torch
from torch import Tensor

Work = Callable[[], None]


def _within(stream: torch.cuda.Stream | None) -> AbstractContextManager[None]:
    return nullcontext() if stream is None else torch.cuda.stream(stream)


class Mark:
    """What was queued so far: the host may queue more, and wait for this alone. On a CPU it is done already."""

    def __init__(self, device: torch.device, held: object = None) -> None:
        """`held`: what must stay in memory until then."""
        self._event, self._held = torch.cuda.Event() if device.type == "cuda" else None, held
        self._device = device
        if self._event is not None:
            self._event.record()

    def wait(self) -> None:
        if self._event is not None:
            torch.cuda.set_device(self._device)  # a thread begins with the first GPU, and would open it
            self._event.synchronize()
        self._held = None


class ToHost:
    """A tensor on its way from the device; the host may queue more meanwhile."""

    def __init__(self, tensor: Tensor) -> None:
        self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda)
        self._copy.copy_(tensor, non_blocking=True)
        self._there = Mark(tensor.device)

    def wait(self) -> Tensor:
        """The tensor, on the host."""
        self._there.wait()
        return self._copy


class Upload:
    """Copies to a GPU beside the tasks, in a stream of their own. On a CPU nothing is copied, nor ahead."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.is_ahead = self._stream is not None

    def stream(self) -> AbstractContextManager[None]:
        """What is queued within goes into the stream, whatever the tasks are at."""
        return _within(self._stream)

    def wait(self, tensors: Iterable[Tensor]) -> None:
        """Let the tasks that follow wait for what is in the stream, and read these tensors of it."""
        if self._stream is not None:
            tasks = torch.cuda.current_stream()
            tasks.wait_stream(self._stream)
            for x in tensors:
                x.record_stream(tasks)


class Beside:
    """Does what it is given, one after the other, while the tasks go on.

    On a GPU in a stream of its own, behind the tasks issued so far: the host waits for nothing. On a CPU in a thread,
    since a reduction there holds up who calls it; where no other rank takes part (`alone`), at once.
    """

    def __init__(self, device: torch.device, alone: bool = False) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._alone = alone
        self._given: SimpleQueue[Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def do(self, work: Work) -> None:
        """Hand work over. It may use tensors of the tasks that outlive it."""
        if self._stream is not None or self._alone:
            with self.stream():
                work()
        else:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="beside", daemon=True)
                self._thread.start()
            self._given.put(work)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """What is queued within goes into the stream; on a CPU it is done at once."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream())
        with _within(self._stream):
            yield

    def wait(self) -> None:
        """Let what follows wait for all of it. Raises here what the work has raised in the thread."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)
        elif self._thread is not None:
            self._given.put(None)
            self._thread.join()
            self._thread = None
            if self._error is not None:
                raise self._error

    def _run(self) -> None:
        try:
            while work := self._given.get():
                work()
        except BaseException as error:
            self._error = error
