"""When a rank works and when it waits: spans of time by name."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from vid2vid_dist.engine.plan.tasks import CostKey


@dataclass(frozen=True)
class Span:
    """Something that took from `start` to `end`, in seconds of `time.perf_counter`. `key`: what kind of task it was,
    None for waiting; `units`: how often the unit cost of its kind."""

    name: str
    key: CostKey | None
    start: float
    end: float
    units: float = 1.0

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass
class Timer:
    """Takes the time of everything that a rank does; cheap enough to be always on.

    `on_device`: wait for the GPU at both ends of a span. Without, the host runs ahead of a GPU and its times say
    little; with, the work is slower. For steps that are traced. `current` and `n_begun`: the main thread's span that
    began last, and how many have begun.
    """

    on_device: bool = False
    spans: list[Span] = field(default_factory=list)
    current: str = ""
    n_begun: int = 0

    @contextmanager
    def span(self, name: str, key: CostKey | None = None, units: float = 1.0) -> Iterator[None]:
        if threading.current_thread() is threading.main_thread():
            self.current, self.n_begun = name, self.n_begun + 1
        start = self._now()
        yield
        self.spans.append(Span(name, key, start, self._now(), units))

    def _now(self) -> float:
        if self.on_device:
            torch.cuda.synchronize()
        return time.perf_counter()

    def take(self) -> list[Span]:
        """The spans since the last call."""
        taken, self.spans = self.spans, []
        return taken
