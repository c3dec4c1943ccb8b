"""`runs/NAME/status.json`: how a run goes or has ended. Batch scripts read it: torchrun passes no exit status on."""

import errno
import json
import os
import platform
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vid2vid_dist.data.atomic import alone_in, write_atomically
from vid2vid_dist.errors import LostRankError, UserError
from vid2vid_dist.monitor.logs import nonfatal
from vid2vid_dist.training.checkpoint import Position
from vid2vid_dist.training.preemption import Interrupted
from vid2vid_dist.training.run_lock import is_in_use
from vid2vid_dist.training.watchdog import HEARTBEAT
from vid2vid_dist.untrusted import is_whole, read_object, shown

SIGN_OF_LIFE = 15.0  # seconds: heartbeats come every 10
LOOK_EVERY = 0.5  # seconds between two looks for one
PATIENCE = 5.0  # seconds for another rank to write: torchrun kills after 30 what does not end by itself


def count_restarts(run_dir: Path) -> int:
    """How often the run has been taken up again, this start included."""
    known = read_object(run_dir / "status.json")
    before = known.get("restarts", 0)
    return (before if is_whole(before) else 0) + 1 if known else 0


def tell(run_dir: Path) -> str:
    """One line about a run, true also of one that was killed. Raises `UserError` when there is none."""
    known = read_object(run_dir / "status.json")
    if not known:
        raise UserError(f"{run_dir} has no status.json that can be read: name a run folder (runs/NAME)")
    status = known.get("status")
    saved = f"saved at step {shown(known.get('step'))}" if known.get("step") else "nothing saved yet"
    if status == "running":
        step = read_object(run_dir / HEARTBEAT).get("step", known.get("step"))
        status = {
            True: f"running, step {shown(step)}",
            False: f"dead: killed near step {shown(step)}, without a word; the same command goes on",
            None: f"no heartbeat yet: gets ready on {shown(known.get('host'))}, or was killed there",
        }[_is_alive(run_dir, known)]
    why = f": {shown(known['why'], 2000)}" if known.get("why") else ""
    return f"{run_dir}: {shown(status)}, epoch {shown(known.get('epoch'))}, {saved}{why}"


def _is_alive(run_dir: Path, known: dict) -> bool | None:
    """Whether a run that says that it runs does: by its lock, its process, its heartbeats; None before the first one
    of a run that only they tell of."""
    in_use = is_in_use(run_dir)
    if in_use or (in_use is False and known.get("host") == platform.node()):
        return in_use
    if known.get("host") == platform.node() and is_whole(known.get("process"), 1, 2**31 - 1):
        return os.path.exists(f"/proc/{known['process']}")
    return _heart_beats(run_dir / HEARTBEAT)


def _heart_beats(sign: Path) -> bool | None:
    """Whether a heartbeat follows the last one; None without one. The time of the file tells nothing: clocks of other
    hosts and of file servers differ, and jump."""
    last = read_object(sign).get("count")
    end = time.monotonic() + SIGN_OF_LIFE
    while last is not None and time.monotonic() < end:
        if read_object(sign).get("count") != last:
            return True
        time.sleep(LOOK_EVERY)
    return None if last is None else False


class Status:
    """Writes the file. Keys: `status` (running, finished, preempted, stopped, failed), `step` and `epoch` (of a
    running run: of its newest checkpoint), `restarts` (how often the run was taken up again), of a running one the
    `host` and the `process` of rank 0, of others `why` and, of a failed one, `cause` ("error", or "lost rank" when
    only the absence of another rank was seen).
    """

    def __init__(self, run_dir: Path, rank: int, restarts: int) -> None:
        self._path, self._rank, self._restarts = run_dir / "status.json", rank, restarts

    def write_running(self, at: Position) -> None:
        """The newest checkpoint is that of `at`; nothing where another rank has failed meanwhile."""
        with nonfatal("status.json"), self._alone():
            if not self._failed():
                self.write("running", at)

    def write_end(self, status: str, at: Position, **more: str) -> None:
        """How the run has ended. Raises `UserError` if it cannot be written: readers would take the run for running."""
        try:
            self.write(status, at, **more)
        except OSError as error:
            raise UserError(f"the run is {status} and saved at step {at.step}, but {self._path} cannot say so "
                            f"({error}): free some space, and give the same command again") from None

    def write(self, status: str, at: Position | None, **more: str) -> None:
        """Replace the file; without a position, where it was known to stand. Raises `OSError`."""
        before = read_object(self._path)
        step, epoch = (at.step, at.epoch) if at is not None else (before.get("step"), before.get("epoch"))
        known = {"status": status, "step": step if is_whole(step) else 0, "epoch": epoch if is_whole(epoch) else 1,
                 "restarts": self._restarts, **more}
        if status == "running":
            known |= {"host": platform.node(), "process": os.getpid()}
        text = json.dumps(known, indent=1)
        try:
            write_atomically(self._path, text)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not before:
                raise
            self._write_in_place(text)

    def _write_in_place(self, text: str) -> None:
        """A full disk still takes a short text where the one before lies."""
        with self._path.open("r+") as file:
            file.write(text)
            file.truncate()

    def write_failure(self, error: BaseException, at: Position | None, finding: str = "") -> None:
        """Any rank may be the one that fails. The one nearest to the cause says why, of equal ones the first (see
        `_nearness`). What is no `UserError` leaves its traceback in `errors`.
        """
        if isinstance(error, Interrupted):
            with nonfatal("status.json"), self._alone():
                if not self._failed():  # else torchrun ends this rank for another one's failure
                    self.write(error.ask.outcome, at, why=str(error))
            return
        if not isinstance(error, UserError):
            with nonfatal("the traceback"):
                log = self._path.parent / "errors" / f"rank_{self._rank:05d}.txt"
                log.parent.mkdir(exist_ok=True)
                log.write_text("".join(traceback.format_exception(error)))
                error.add_note(f"traceback: {log}")
        cause = "lost rank" if isinstance(error, LostRankError) else "error"
        why = str(error) or type(error).__name__
        with nonfatal("status.json"), self._alone():
            known = self._failed()
            rank = "" if cause == "lost rank" else f"rank {self._rank}: "  # which says it itself
            why = f"{finding}; {why}" if finding and not rank else f"{rank}{why}"
            if not known or _nearness(known.get("cause"), known.get("why")) < _nearness(cause, why):
                self.write("failed", at, cause=cause, why=why)

    def _failed(self) -> dict:
        """What a rank has said of its failure; nothing if none has. The run's start has cleared earlier lives' away."""
        known = read_object(self._path)
        return known if known.get("status") == "failed" else {}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Ranks fail together: between one's look at the file and its writing none of the others may write."""
        with ExitStack() as stack:
            with suppress(OSError):  # no folder yet, or one on a file system without locks
                stack.enter_context(alone_in(self._path.parent, PATIENCE))
            yield


def _nearness(cause: object, why: object) -> int:
    """To the root of a failure: an error is nearer than a rank that is missing; one that was waited for in vain nearer
    than one whose connection broke: those of a rank that has waited in vain break, too. The rank without a heartbeat is
    nearest of those that were waited for: the others wait for it themselves."""
    if cause == "error":
        return 3
    if not isinstance(why, str) or not re.search("timed? ?out", why, re.IGNORECASE):
        return 0
    return 2 if re.match(r"no heartbeat of (rank \d+)\b.* of \1:", why) else 1
