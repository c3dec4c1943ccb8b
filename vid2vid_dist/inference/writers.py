"""Results are written beside the generation, by processes that take frames from shared memory, or by one thread.

A video has several products (`inference.products`). Each belongs to one worker, which gets its frames in their order;
so products of one video, and of several, are written at the same time.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.workers import end_with, require_shared_memory, spawned

T = TypeVar("T")
MAX_WRITERS = 8  # a rank that makes frames faster than so many write them waits


class Product(Protocol):
    """Something that is made of the frames of one video. Pickled to its worker before its first frame."""

    def add(self, name: str, frame: Frames, fakes: Tensor) -> dict[str, float]:
        """Take the next frame, as read, and what was made of it, (looks, 3, H, W) in [-1, 1]; gives its figures."""
        ...

    def close(self, complete: bool) -> None: ...


@dataclass
class Slot:
    """Shared memory for one frame. It is free when its jobs are done."""

    number: int
    frame: Frames
    fakes: Tensor
    jobs: list[Future[dict[str, float]]] = field(default_factory=list)


class Writers:
    """`n_processes` workers, 0 = one thread of this process. As a context manager: all that was begun is ended."""

    def __init__(self, n_processes: int) -> None:
        self._workers: list[Executor] = [spawned(1, _begin) for _ in range(n_processes)
                                         ] or [ThreadPoolExecutor(1, "results")]
        self.n_workers, self._processes = len(self._workers), n_processes > 0
        self._ring: deque[Slot] = deque()
        self._n_products = self._n_slots = 0

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.shutdown(cancel_futures=True)

    def open(self, products: Sequence[Product]) -> list[int]:
        """The numbers of some products for `write`."""
        numbers = range(self._n_products, self._n_products + len(products))
        self._n_products += len(products)
        for number, product in zip(numbers, products, strict=True):
            self._submit(number, _open, number, product)
        return [*numbers]

    def close(self, products: Sequence[int], complete: bool) -> list[Future[None]]:
        """End some products when their frames are written; an incomplete one leaves no file."""
        return [self._submit(number, _close, number, complete) for number in products]

    def write(self, products: Sequence[int], name: str, frame: Frames, fakes: Tensor
              ) -> list[Future[dict[str, float]]]:
        """Have a frame added to some products. Waits while as many frames as there are slots are being written."""
        slot = self._free_slot(frame, fakes)
        slot.fakes.copy_(fakes)
        for to, given in _tensors(slot.frame, frame):
            to.copy_(given)
        slot.jobs = [self._submit(number, _add, number, name, slot.number) for number in products]
        self._ring.append(slot)
        return slot.jobs

    def _room_for(self, tensor: Tensor) -> Tensor:
        if not self._processes:
            return torch.empty_like(tensor)
        require_shared_memory(tensor.nbytes, "--writers 0")
        return torch.empty_like(tensor).share_memory_()

    def _submit(self, number: int, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Of the worker of product `number`; where that has ended, what comes back says so."""
        try:
            return self._workers[number % self.n_workers].submit(function, *arguments)
        except BrokenExecutor as error:
            failed: Future[T] = Future()
            failed.set_exception(error)
            return failed

    def _free_slot(self, frame: Frames, fakes: Tensor) -> Slot:
        if len(self._ring) > self.n_workers + 1:
            slot = self._ring.popleft()
            wait(slot.jobs)
            if slot.fakes.shape == fakes.shape and all(a.shape == b.shape for a, b in _tensors(slot.frame, frame)):
                return slot
            number = slot.number
        else:
            number, self._n_slots = self._n_slots, self._n_slots + 1
        images, instances = (None if x is None else self._room_for(x) for x in (frame.images, frame.instances))
        slot = Slot(number, Frames(self._room_for(frame.labels), images, instances, []), self._room_for(fakes))
        for worker in range(self.n_workers):
            self._submit(worker, _hold, number, slot.frame, slot.fakes)
        return slot


def n_writers(device: torch.device) -> int:
    """On a GPU its share of the cores but one; none on a CPU, which makes frames more slowly than a thread writes."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(cores - 1, 1), MAX_WRITERS) if device.type == "cuda" else 0


def _tensors(a: Frames, b: Frames) -> list[tuple[Tensor, Tensor]]:
    pairs = (a.labels, b.labels), (a.images, b.images), (a.instances, b.instances)
    return [(x, y) for x, y in pairs if x is not None and y is not None]


# In a worker: what it has open, by number.
_products: dict[int, Product] = {}
_slots: dict[int, tuple[Frames, Tensor]] = {}


def _begin(parent: int) -> None:
    """Ctrl-C is the parent's matter. One core of torch's for each."""
    end_with(parent, signal.SIG_IGN)
    torch.set_num_threads(1)


def _hold(number: int, frame: Frames, fakes: Tensor) -> None:
    _slots[number] = frame, fakes


def _open(number: int, product: Product) -> None:
    _products[number] = product


def _add(number: int, name: str, slot: int) -> dict[str, float]:
    frame, fakes = _slots[slot]
    return _products[number].add(name, replace(frame, names=[name]), fakes)


def _close(number: int, complete: bool) -> None:
    _products.pop(number).close(complete)
