"""Frames decoded ahead of whoever takes them: by threads, or by processes where Python draws them."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from typing import Protocol
from weakref import finalize

import torch

from vid2vid_dist.data.clips import Frames, Request
from vid2vid_dist.data.workers import end_with, kill, require_shared_memory, spawned
from vid2vid_dist.errors import ResourceError, UserError

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


class Loader(Protocol):
    """Loads what is asked for; threads share it."""

    def load(self, request: Request) -> Frames: ...

    def opener(self) -> Callable[[], Loader]:
        """What makes the same loader in another process."""
        ...


class Decoders:
    """`n_workers` that decode ahead with a loader, 0 = nobody does, frames are decoded when they are asked for.

    in_processes: rather than in threads. These are enough for label maps and pictures: the time goes into Pillow's
    decoding and resizing, which release the interpreter's lock. Faces and bodies are in part drawn by Python, which
    does not.
    Processes start at once, and end with this object or with the process.
    """

    def __init__(self, loader: Loader, n_workers: int, in_processes: bool) -> None:
        self._loader, self._n_workers = loader, n_workers
        self._pool: Executor | None = None
        if n_workers and in_processes:
            self._pool = spawned(n_workers, _begin, loader.opener())
            heeded = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # theirs too, until they ignore them
            for _ in range(n_workers):  # each begins one, as none is idle yet
                self._pool.submit(_get_ready)
            signal.pthread_sigmask(signal.SIG_SETMASK, heeded)
        elif n_workers:
            self._pool = ThreadPoolExecutor(n_workers, "decode")
        if self._pool is not None:
            finalize(self, self._pool.shutdown, cancel_futures=True)
        self._load = _load if in_processes else loader.load

    def stream(self, requests: Iterable[Request]) -> Iterator[Frames]:
        """The frames of each request, in order.

        Raises UserError as the loader does; ResourceError when a process was ended, and where the machine has too
        little shared memory for what processes are asked for at a time.
        """
        if self._pool is None:
            yield from map(self._loader.load, requests)
            return
        ahead: deque[Future[Frames]] = deque()
        try:
            for future in self._submitted(requests):
                ahead.append(future)
                if len(ahead) > 2 * self._n_workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BrokenExecutor:
            assert isinstance(self._pool, ProcessPoolExecutor)
            kill(self._pool)
            raise ResourceError("a process that decodes frames was ended (killed, for want of memory?): lower "
                            "data.workers, and give the same command again") from None
        finally:
            for future in ahead:
                future.cancel()

    def _submitted(self, requests: Iterable[Request]) -> Iterator[Future[Frames]]:
        """What cannot even be asked for is told in its turn, after the frames before it."""
        assert self._pool is not None
        try:
            for request in requests:
                yield self._pool.submit(self._load, request)
        except UserError as error:
            failed: Future[Frames] = Future()
            failed.set_exception(error)
            yield failed


_opener: Callable[[], Loader]  # in a process


def _begin(parent: int, opener: Callable[[], Loader]) -> None:
    """Signals, which come to all processes of a job, are the parent's matter. One core of torch's for each."""
    global _opener
    end_with(parent, signal.SIG_IGN)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    torch.set_num_threads(1)
    _opener = opener


@cache
def _loader() -> Loader:
    return _opener()


def _get_ready() -> None:
    _loader()


def _load(request: Request) -> Frames:
    """Through shared memory, which is given back when the frames are."""
    frames = _loader().load(request)
    tensors = [x for x in (frames.labels, frames.images, frames.instances, frames.flows) if x is not None]
    require_shared_memory(sum(x.nbytes for x in tensors), "data.workers=0")
    return frames
