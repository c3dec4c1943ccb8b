"""When a run is asked to save, or to save and end: by files in its folder, by signals, or because its time is up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType

from vid2vid_dist.config.schema import RunConfig
from vid2vid_dist.monitor.logs import nonfatal

LOOK_EVERY = 1.0  # seconds between two looks for files: run folders lie on shared file systems


class Ask(IntEnum):
    """What a run is asked for. Where ranks are asked for different things, the largest holds for all."""

    NOTHING = 0
    SAVE_FILE = 1
    TIME_LIMIT = 2
    SLURM_END = 3
    PREEMPT_FILE = 4
    SIGUSR2 = 5
    SIGTERM = 6
    SIGINT = 7
    STOP_FILE = 8

    @property
    def outcome(self) -> str:
        """The status of a run that ends for it: "preempted" is to be taken up again; "" goes on."""
        if self in (Ask.NOTHING, Ask.SAVE_FILE):
            return ""
        return "stopped" if self in (Ask.SIGINT, Ask.STOP_FILE) else "preempted"

    @property
    def words(self) -> str:
        """Who asked, in words."""
        return {Ask.SAVE_FILE: "file `save`", Ask.PREEMPT_FILE: "file `preempt`", Ask.STOP_FILE: "file `stop`",
                Ask.TIME_LIMIT: "run.time_limit", Ask.SLURM_END: "end of the Slurm job near"}.get(self, self.name)


FILES = {"stop": Ask.STOP_FILE, "preempt": Ask.PREEMPT_FILE, "save": Ask.SAVE_FILE}
SIGNALS = {signal.SIGINT: Ask.SIGINT, signal.SIGTERM: Ask.SIGTERM, signal.SIGUSR2: Ask.SIGUSR2}


class Asked:
    """What this rank is asked for. Signals may reach any rank; files and clocks are looked at by one.

    `looks`: whether this rank is the one.
    """

    def __init__(self, run: RunConfig, looks: bool) -> None:
        self._folder, self._looks = Path(run.root) / run.name, looks
        self._by_signal = Ask.NOTHING
        self._seen, self._next_look = Ask.NOTHING, 0.0
        end = float(os.environ.get("SLURM_JOB_END_TIME", "inf")) - 60 * run.time_margin - time.time()
        limit = 60 * run.time_limit or float("inf")
        self._time_is_up = time.monotonic() + min(limit, end)
        self._by_time = Ask.SLURM_END if end < limit else Ask.TIME_LIMIT

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals as requests inside. A second Ctrl-C ends the process as it would have."""
        before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        self._by_signal = max(self._by_signal, SIGNALS[signal.Signals(number)])

    def now(self) -> Ask:
        """What this rank is asked for, as far as it knows."""
        if self._looks and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_EVERY
            # Unlike Path.exists it finds nothing, and raises nothing, where a file server is in trouble.
            found = [ask for name, ask in FILES.items() if os.path.exists(self._folder / name)]
            up = [self._by_time] if time.monotonic() >= self._time_is_up else []
            self._seen = max([*found, *up], default=Ask.NOTHING)
        return max(self._seen, self._by_signal)

    def served(self, ask: Ask) -> None:
        """Take away the files of a request that has been met; one that ends the run meets them all."""
        self._seen = Ask.NOTHING
        for name, of_file in FILES.items():
            if self._looks and (ask.outcome or of_file == ask):
                with nonfatal(f"the end of the request {self._folder / name}"):
                    (self._folder / name).unlink(missing_ok=True)
