"""Train for long with a fault every few minutes, and watch what grows.

    python -m tools.soak [--minutes 60] [--every 2] [--ranks 4] [--seed 0]

The drill's run (`tools.drill`), for a time instead of a number of ends. Memory, open files and threads of rank 0 are
read every few seconds. Each life grows while it starts; what counts is the line through what was read after its first
steps, and the largest growth per hour of all lives is told, for lives long enough to have one.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np

from tools.drill import HEAD, Kind, deal, drill
from tools.drilled_run import Run, read
from vid2vid_dist.cli.entry import run_main

READ_EVERY = 2.0  # seconds
SETTLED = 8  # steps after which a process has all that it needs
SHORTEST = 30.0  # seconds of readings after them, for a line


@dataclass(frozen=True)
class Reading:
    """What rank 0 holds: resident memory in MiB, open files, threads. `seconds`: of any clock, `steps`: of its life."""

    steps: int
    seconds: float
    memory: float
    files: float
    threads: float


WHAT = ("MiB", "open files", "threads")


def read_process(pid: int, steps: int) -> Reading:
    """Raises `OSError` and `ValueError` where the process is gone."""
    status = dict(line.split(":", 1) for line in read(Path(f"/proc/{pid}/status")).splitlines())
    if "VmRSS" not in status:
        raise ValueError(f"process {pid} is gone")
    return Reading(steps, time.monotonic(), int(status["VmRSS"].split()[0]) / 1024, len(os.listdir(f"/proc/{pid}/fd")),
                   int(status["Threads"]))


class Meter:
    """A thread that reads rank 0 of a run, life by life."""

    def __init__(self, run: Run) -> None:
        self._run, self._over = run, Event()
        self.lives: dict[int, list[Reading]] = {}
        self._thread = Thread(target=self._read, daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        before: dict[int, int] = {}
        while not self._over.wait(READ_EVERY):
            pid = None if self._run.is_over() else self._run.ranks().get(0)
            if pid is not None:
                steps = self._run.n_reports()
                steps -= before.setdefault(pid, steps)
                with suppress(OSError, ValueError):
                    self.lives.setdefault(pid, []).append(read_process(pid, steps))


def growth(readings: list[Reading]) -> tuple[float, ...] | None:
    """Per hour, of memory (MiB), open files and threads, by least squares; None for a life that was too short."""
    settled = np.array([astuple(reading)[1:] for reading in readings if reading.steps >= SETTLED])
    if len(settled) < 3 or settled[-1, 0] - settled[0, 0] < SHORTEST:
        return None
    return tuple(3600 * np.polyfit(settled[:, 0] - settled[0, 0], settled[:, 1:], 1)[0])


def report(lives: list[list[Reading]]) -> str:
    """What grew most, and what each life held at its end."""
    known = [slopes for life in lives if (slopes := growth(life)) is not None]
    lines = [f"{len(lives)} lives of rank 0, {len(known)} long enough for a line"]
    for i, what in enumerate(WHAT):
        ends = [astuple(life[-1])[i + 2] for life in lives if life[-1].steps >= SETTLED]
        held = f"at the end of lives {min(ends):.0f} to {max(ends):.0f}" if ends else "no life was long enough"
        most = f"{max(slopes[i] for slopes in known):+.1f}" if known else "not known"
        lines.append(f"{what}: {held}; largest growth per hour {most}")
    return "\n".join(lines)


def paced(kinds: Iterator[Kind], seconds: float, every: float) -> Iterator[Kind]:
    """One of `kinds` every so many seconds, until the time is over."""
    end = time.monotonic() + seconds
    for number in itertools.count(1):
        due = end - seconds + number * every
        if due > end:
            return
        time.sleep(max(0, due - time.monotonic()))
        yield next(kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=2, metavar="MINUTES", help="between two faults")
    parser.add_argument("--ranks", type=int, default=4, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(HEAD)
    kinds = paced(deal(random.Random(args.seed), list(Kind)), 60 * args.minutes, 60 * args.every)
    with tempfile.TemporaryDirectory(prefix="soak.") as folder:
        run = Run(Path(folder) / "ended", args.ranks)
        with Meter(run) as meter:
            outcome = drill(run, kinds, 1, args.seed)
    print(outcome)
    print(report([life for life in meter.lives.values() if life]))
    return 0 if outcome.beyond == 0 else 1


if __name__ == "__main__":
    run_main(main)
