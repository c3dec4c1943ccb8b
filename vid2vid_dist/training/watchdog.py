"""Finds a rank that hangs: every rank leaves heartbeats in a file, and looks at the others' when nothing goes on.

    runs/NAME/watch/rank_00003.json        step, task and place in the code, some seconds old
    runs/NAME/watch/rank_00003.stacks.txt  stacks of all its threads, written when it was stuck

The watchdog only reports. The run ends by the time-outs of its messages and reductions (`parallel.timeout`): it speaks
at half of that time, so that the report is there before.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.monitor.logs import nonfatal
from vid2vid_dist.untrusted import read_object

log = logging.getLogger(__name__)

OURS = str(Path(__file__).resolve().parent.parent)
COMMUNICATION = (os.path.join("torch", "distributed"), os.path.join("deepspeed", "comm"))
WAITING = {("transport.py", "wait"), ("updates.py", "finish")}
BEATS_PER_LIMIT = 20  # how often a rank leaves a heartbeat while others would still be patient
HEARTBEAT = "watch/rank_00000.json"  # of rank 0, in the run's folder
SILENCE = 1.0  # seconds, at least: on a busy machine a thread may wait for its turn
SLOWEST_SIGN = 10.0  # seconds between two signs: run folders lie on shared file systems


@dataclass(frozen=True)
class Sign:
    """A heartbeat. `count` grows with every beat, `progress` with every step and task; `place`: where the main
    thread is in our code; `waits`: it talks to other ranks there."""

    rank: int
    count: int
    step: int
    progress: int
    task: str
    place: str
    waits: bool

    @property
    def words(self) -> str:
        doing = f"{'waits in' if self.waits else 'works in'} {self.place}"
        return f"step {self.step}, {self.task}: {doing}" if self.task else f"step {self.step}: {doing}"


class Watchdog:
    """A thread of this rank, alive inside `with`. The trainer sets `step`; tasks are those of `timer`, if there is one.

    `patience`: seconds without progress after which it speaks, at most once until something goes on again. `finding`:
    what it said last, "" before. `interval`: seconds between two heartbeats.
    """

    def __init__(self, run_dir: Path, rank: int, world_size: int, patience: float, timer: Timer | None) -> None:
        self.step, self.finding = 0, ""
        self._folder, self._rank, self._world_size = run_dir / "watch", rank, world_size
        self._patience, self._timer = patience, timer
        self.interval = min(SLOWEST_SIGN, patience / BEATS_PER_LIMIT)
        self._main = threading.get_ident()
        self._count = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        with nonfatal(f"{self._folder}"):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        progress, since, told = -1, time.monotonic(), False
        while not self._over.wait(self.interval):
            sign = self.show()
            if sign.progress != progress:
                progress, since, told = sign.progress, time.monotonic(), False
            elif not told and time.monotonic() - since > self._patience:
                told = True
                self._report(sign)

    def show(self) -> Sign:
        """Look at the main thread and publish what it does."""
        self._count += 1
        frame = sys._current_frames().get(self._main)
        n_tasks, task = (self._timer.n_begun, self._timer.current) if self._timer is not None else (0, "")
        sign = Sign(self._rank, self._count, self.step, self.step + n_tasks, task, *_place(frame))
        with nonfatal("the watchdog's heartbeat"):
            aside = self._file(self._rank).with_suffix(".new")
            aside.write_text(json.dumps(asdict(sign)))
            os.replace(aside, self._file(self._rank))
        return sign

    def _report(self, mine: Sign) -> None:
        with nonfatal("stacks"), self._file(self._rank).with_suffix(".stacks.txt").open("w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        before, end = self.signs(), time.monotonic() + max(SILENCE, 3 * self.interval)
        while time.monotonic() < end:
            if self._over.wait(self.interval):
                return
            mine = self.show()  # the others look at the same time: who looks must not seem silent
        now = self.signs() | {mine.rank: mine}
        others = set(range(self._world_size)) - {self._rank}
        silent = sorted(rank for rank in others if rank not in now or now[rank] == before.get(rank))
        self.finding = name_laggard(now, silent)
        if self._rank == min(set(now) - set(silent)):
            log.error("nothing has gone on for %.0f s: %s. Stacks: %s", self._patience, self.finding,
                      self._folder / "rank_*.stacks.txt")

    def signs(self) -> dict[int, Sign]:
        """The newest heartbeat of every rank that has left one."""
        found = {}
        for rank in range(self._world_size):
            with suppress(TypeError):  # not there, or not whole
                found[rank] = Sign(**read_object(self._file(rank)))
        return found

    def _file(self, rank: int) -> Path:
        return self._folder / f"rank_{rank:05d}.json"


def name_laggard(signs: dict[int, Sign], silent: list[int]) -> str:
    """Whom the others wait for. A process that leaves no heartbeat comes first: it is stopped, or its node is gone,
    and cannot write its stacks. Then who works instead of waiting, then who is behind."""
    if silent:
        last = [f"rank {rank} ({signs[rank].words})" if rank in signs else f"rank {rank}" for rank in silent]
        return f"no heartbeat of {', '.join(last)}: stopped, or its node is gone, so it leaves no stacks"
    behind = min(signs.values(), key=lambda sign: (sign.waits, sign.step, sign.progress))
    return f"the others wait for rank {behind.rank}: {behind.words}"


def _place(frame: FrameType | None) -> tuple[str, bool]:
    """The innermost place in our code, and whether the thread talks to other ranks: below it there is a frame of a
    communication library, or it is one that waits for messages."""
    talks = False
    while frame is not None and not frame.f_code.co_filename.startswith(OURS):
        talks = talks or any(part in frame.f_code.co_filename for part in COMMUNICATION)
        frame = frame.f_back
    if frame is None:
        return "foreign code", talks
    path, name = Path(frame.f_code.co_filename), frame.f_code.co_name
    return f"{path.relative_to(OURS)}:{frame.f_lineno} {name}", talks or (path.name, name) in WAITING
