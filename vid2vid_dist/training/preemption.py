"""When a run is asked to save, or to save and end: by files in its folder, by signals, because its time is up, or
because the torchrun that started it is gone."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType

from vid2vid_dist.config.schema import RunConfig
from vid2vid_dist.errors import LostRankError
from vid2vid_dist.monitor.logs import nonfatal
from vid2vid_dist.parent import PARENT

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds between two looks for files: run folders lie on shared file systems


class Ask(IntEnum):
    """What a run is asked for. Where ranks are asked for different things, the largest holds for all."""

    NOTHING = 0
    SAVE_FILE = 1
    TIME_LIMIT = 2
    SLURM_END = 3
    PREEMPT_FILE = 4
    NO_TORCHRUN = 5
    SIGHUP = 6
    SIGQUIT = 7
    SIGUSR1 = 8
    SIGUSR2 = 9
    SIGTERM = 10
    SIGINT = 11
    STOP_FILE = 12

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
                Ask.TIME_LIMIT: "run.time_limit", Ask.SLURM_END: "end of the Slurm job near",
                Ask.NO_TORCHRUN: "the torchrun of these ranks is gone"}.get(self, self.name)


FILES = {"stop": Ask.STOP_FILE, "preempt": Ask.PREEMPT_FILE, "save": Ask.SAVE_FILE}
SIGNALS = {number: Ask[number.name] for number in signal.Signals if number.name in Ask.__members__}


class Interrupted(KeyboardInterrupt):
    """A signal before there is anything to save."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(f"{ask.words} before the first step")
        self.ask = ask


class Asked:
    """What this rank is asked for. Signals may reach any rank; files and clocks are looked at by one.

    `looks`: whether this rank is the one.
    """

    def __init__(self, run: RunConfig, looks: bool) -> None:
        self._folder, self._looks = Path(run.root) / run.name, looks
        self._by_signal = Ask.NOTHING
        self._raises = False
        self._seen, self._next_look = Ask.NOTHING, 0.0
        self._parent = PARENT if "TORCHELASTIC_RUN_ID" in os.environ else 0
        end = _end_of_slurm_job() - 60 * run.time_margin
        limit = 60 * run.time_limit or float("inf")
        self._time_is_up = time.monotonic() + min(limit, end)
        self._by_time = Ask.SLURM_END if end < limit else Ask.TIME_LIMIT

    @contextmanager
    def listening(self, raises: bool = False) -> Iterator[None]:
        """Take signals as requests inside; with `raises`, as `Interrupted`. A second Ctrl-C ends the process as it
        would have, and a SIGHUP that nohup has switched off stays so."""
        self._raises = raises
        before = {number: signal.signal(number, self._hear) for number in SIGNALS
                  if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN}
        try:
            yield
        except LostRankError as error:
            error.is_told = self._parent != 0 and self._by_signal == Ask.SIGTERM
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        self._by_signal = max(self._by_signal, SIGNALS[signal.Signals(number)])
        if self._raises:
            raise Interrupted(self._by_signal)

    def now(self) -> Ask:
        """What this rank is asked for, as far as it knows."""
        if self._looks and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_EVERY
            # Unlike Path.exists it finds nothing, and raises nothing, where a file server is in trouble.
            found = [ask for name, ask in FILES.items() if os.path.exists(self._folder / name)]
            up = [self._by_time] if time.monotonic() >= self._time_is_up else []
            self._seen = max([*found, *up], default=Ask.NOTHING)
        if self._parent and os.getppid() != self._parent:
            return max(self._seen, self._by_signal, Ask.NO_TORCHRUN)
        return max(self._seen, self._by_signal)

    def served(self, ask: Ask) -> None:
        """Take away the files of a request that has been met; one that ends the run meets them all."""
        self._seen = Ask.NOTHING
        for name, of_file in FILES.items():
            if self._looks and (ask.outcome or of_file == ask):
                with nonfatal(f"the end of the request {self._folder / name}"):
                    (self._folder / name).unlink(missing_ok=True)


def _end_of_slurm_job() -> float:
    """Seconds until the Slurm job ends that this process runs in; infinite where there is none."""
    told = os.environ.get("SLURM_JOB_END_TIME", "")
    try:
        left = float(told or "inf") - time.time()
    except ValueError:
        left = float("nan")
    if left > 0:
        return left
    log.warning("SLURM_JOB_END_TIME=%r is no time to come, and is ignored: a job that is over may have left it", told)
    return float("inf")
