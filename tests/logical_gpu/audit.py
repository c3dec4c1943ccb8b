"""What a GPU would have shown: where the host waits for it, and what it or NCCL would have refused."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

OURS = ("/vid2vid_dist/", "/tools/")
LIBRARY = "/deepspeed/"


@dataclass
class Audit:
    """Counts, by phase. `refused`: mix-ups of devices, and what NCCL would not take.

    `waits`: the host stands still until the GPU has done what was queued; `pageable`: copies from memory that is not
    pinned, for which it stands still too, however they are asked for. Keys are `kind at place`.
    """

    phase: str = "start"
    entered: Counter[str] = field(default_factory=Counter)
    waits: dict[str, Counter[str]] = field(default_factory=dict)
    pageable: dict[str, Counter[str]] = field(default_factory=dict)
    operations: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)

    @contextmanager
    def within(self, phase: str) -> Iterator[None]:
        """What happens inside counts for this phase."""
        before, self.phase = self.phase, phase
        self.entered[phase] += 1
        try:
            yield
        finally:
            self.phase = before

    def wait(self, kind: str) -> None:
        self.waits.setdefault(self.phase, Counter())[f"{kind} at {place()}"] += 1

    def copy_from_pageable(self) -> None:
        self.pageable.setdefault(self.phase, Counter())[place()] += 1

    def refuse(self, what: str) -> None:
        self.refused.append(f"{self.phase}: {what} at {place()}")


AUDIT = Audit()


def place() -> str:
    """The innermost lines of ours, and of DeepSpeed where it is between."""
    frame, found = sys._getframe(2), []
    while frame is not None and len(found) < 2:
        name = frame.f_code.co_filename
        if LIBRARY in name and not found:
            found.append(f"deepspeed/{name.rpartition(LIBRARY)[2]}:{frame.f_lineno}")
        for folder in OURS:
            if folder in name:
                found.append(f"{name.rpartition(folder)[2]}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found) or "elsewhere"
