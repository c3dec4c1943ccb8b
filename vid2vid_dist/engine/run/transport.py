"""Tensors from rank to rank of a pipeline. Both ends know shape and number format, so nothing else is sent.

Between two ranks messages go in the order of the plan. Sends and receives are posted without waiting, so the
two ends of a pair may work at their own pace. On GPUs a message from a lower slot to a higher one goes through another
process group than one the other way: NCCL makes a communicator for every pair of a group that exchanges something, so
each direction of a pair in use has one, and a send that waits for its receiver never holds up what goes the other way.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import LostRankError


class TransportError(LostRankError):
    """A message did not arrive, or nobody took it: names rank, peer, task and step."""


@contextmanager
def _naming(what: str) -> Iterator[None]:
    try:
        yield
    except torch.AcceleratorError:  # a fault of this rank's own GPU
        raise
    except RuntimeError as error:
        raise TransportError(f"{what}: {error}") from error


@dataclass
class Pending:
    """Tensors on their way. They stay unchanged, and in memory, until `wait` has returned."""

    tensors: list[Tensor]
    works: list[Any]
    what: str
    timeout: timedelta | None  # None: the communicator watches over its own

    @property
    def is_done(self) -> bool:
        return all(work.is_completed() for work in self.works)

    def wait(self) -> list[Tensor]:
        """The tensors, once they are there (or, of a send, once they may be overwritten)."""
        with _naming(self.what):
            for work in self.works:
                work.wait() if self.timeout is None else work.wait(self.timeout)
        self.works = []
        return self.tensors


class Transport:
    """Point-to-point messages of this rank; slots are those of its pipeline.

    Every rank of the run makes one at the same time: the communicators are created together.
    """

    def __init__(self, grid: Grid, timeout: timedelta | None = None) -> None:
        self.grid = grid
        timeout = timeout or grid.timeout
        self._ranks = grid.ranks[grid.pipeline].tolist()
        on_gpu = grid.device.type == "cuda"
        self._up: Any = None  # groups of this pipeline, for messages to higher slots and to lower ones
        self._down: Any = None
        if on_gpu and grid.n_slots > 1:
            self._up, _ = dist.new_subgroups_by_enumeration(grid.ranks.tolist(), timeout=timeout)
            self._down, _ = dist.new_subgroups_by_enumeration(grid.ranks.tolist(), timeout=timeout)
        # NCCL would make the host wait for a message that has a time-out of its own.
        self._timeout = None if on_gpu else timeout
        self.step = 0  # of the run

    def send(self, slot: int, tensors: Sequence[Tensor], task: str) -> Pending:
        """Hand tensors to a slot, to be received in the same order there."""
        peer = self._ranks[slot]
        group = self._up if peer > self.grid.rank else self._down
        sent = [tensor.detach().contiguous() for tensor in tensors]
        what = self._what(f"nobody took what {task} made, rank {peer} should")
        with _naming(what):
            return Pending(sent, [dist.isend(tensor, peer, group=group) for tensor in sent], what, self._timeout)

    def receive(self, slot: int, like: Sequence[tuple[tuple[int, ...], torch.dtype]], task: str) -> Pending:
        """Be ready for tensors of these shapes and formats from a slot."""
        peer = self._ranks[slot]
        group = self._down if peer > self.grid.rank else self._up
        buffers = [torch.empty(shape, dtype=dtype, device=self.grid.device) for shape, dtype in like]
        what = self._what(f"waiting for {task} of rank {peer}")
        with _naming(what):
            return Pending(buffers, [dist.irecv(buffer, peer, group=group) for buffer in buffers], what, self._timeout)

    def _what(self, text: str) -> str:
        return f"step {self.step}, rank {self.grid.rank}: {text}"
