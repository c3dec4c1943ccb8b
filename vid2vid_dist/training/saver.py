"""Writes checkpoints while training goes on.

A step boundary only asks for copies of the state; a thread of every rank waits for them, writes its files, forces them
to disk and hashes them. The threads then tell each other over a process group of their own, which no collective of the
training ever waits for, whether all have succeeded: rank 0 commits the checkpoint, or all know why there is none. What
was written before stays in force until `latest` moves, so a save that fails, or a run that dies in it, loses nothing.
"""

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.streams import Mark
from vid2vid_dist.errors import LostRankError, UserError
from vid2vid_dist.models.manifest import Entries
from vid2vid_dist.training import checkpoint
from vid2vid_dist.training.checkpoint import Files

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds


@dataclass
class Saved:
    """How a save went; the same on all ranks except for the times.

    `fault`: why there is no checkpoint, None when there is one. `seconds`: from the step boundary until `latest` named
    it. `stall`: for how many of these training stood still.
    """

    step: int
    folder: Path
    fault: str | None = None
    seconds: float = 0.0
    stall: float = 0.0

    def require(self) -> None:
        """Raise `UserError` if there is no checkpoint."""
        if self.fault is not None:
            raise UserError(f"step {self.step} could not be saved: {self.fault}. Fix this; the same command then "
                            "goes on from the checkpoint before")


class Saver:
    """One save at a time; all ranks make the same calls, except for `poll`."""

    def __init__(self, run_dir: Path, grid: Grid, keep_last: int, keep_every_steps: int) -> None:
        self._run_dir, self._grid = run_dir, grid
        self._keep_last, self._keep_every_steps = keep_last, keep_every_steps
        self._threads = grid.of_threads()
        self._thread: Thread | None = None
        self._current: Saved | None = None  # what the thread works on, or has done
        self.last: Saved | None = None  # the last one that came to its end

    def begin(self, step: int, files: Files, there: Mark, started: float) -> None:
        """Save this rank's files of a step, which are `there` later. `started`: `time.monotonic()` when the training
        stopped for it.

        The save before must have been taken by `finish`.
        """
        assert self._current is None
        n_bytes = sum(self._grid.gather(checkpoint.count_bytes(files)))
        aside = self._grid.on_first(lambda: self._prepare(step, n_bytes))
        self._current = saved = Saved(step, self._run_dir / "checkpoints" / checkpoint.checkpoint_name(step))
        if isinstance(aside, str):
            saved.fault = aside
        else:
            self._thread = Thread(target=self._write, args=(saved, aside, files, there, started), name="saver",
                                  daemon=True)
            self._thread.start()
        saved.stall = time.monotonic() - started

    def poll(self, seconds: float = 0.0) -> Saved | None:
        """The save that has ended on this rank since the last call, if any; waits no longer than this for it."""
        if self._thread is not None:
            self._thread.join(seconds)
        return None if self._thread is not None and self._thread.is_alive() else self._take()

    def finish(self, heartbeats: Callable[[], Mapping[int, object]] = dict) -> Saved | None:
        """Wait for the save in progress, if any; returns how it went, unless `poll` already has.

        `heartbeats`: the newest of each rank. A save may take long, but not that of a rank that is stopped: raises
        `LostRankError` when one has left none for as long as ranks wait for each other.
        """
        patience = self._grid.timeout.total_seconds()
        seen, end = heartbeats(), time.monotonic() + patience
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(LOOK_EVERY)
            if time.monotonic() > end:
                before, seen, end = seen, heartbeats(), time.monotonic() + patience
                lost = [rank for rank in seen if rank != self._grid.rank and seen[rank] == before.get(rank)]
                if lost and self._current is not None:
                    raise LostRankError(f"step {self._current.step}, rank {self._grid.rank}: waiting for the part of "
                                        f"the checkpoint of rank {lost[0]}: timed out")
        return self._take()

    def _take(self) -> Saved | None:
        ended, self._current, self._thread = self._current, None, None
        self.last = ended or self.last
        return ended

    def _prepare(self, step: int, n_bytes: int) -> Path | str:
        try:
            return checkpoint.prepare(self._run_dir, step, n_bytes)
        except OSError as error:
            return str(error)

    def _write(self, saved: Saved, aside: Path, files: Files, there: Mark, started: float) -> None:
        entries: Entries = {}
        fault = None
        try:
            there.wait()
            entries = checkpoint.write_files(aside, files)
        except Exception as error:  # whatever it is, the other ranks must not be left waiting
            fault = f"rank {self._grid.rank}: {str(error) or type(error).__name__}"
        try:
            parts = self._threads.gather((entries, fault))
            faults = [fault for _, fault in parts if fault]
            if self._grid.is_first:
                fault = faults[0] if faults else self._commit(aside, saved.step, [entries for entries, _ in parts])
            saved.fault = self._threads.from_first(fault)
        except RuntimeError as error:
            saved.fault = f"another rank has left: {error}"
        except Exception as error:  # a save that does not know how it ended has not succeeded
            saved.fault = f"rank {self._grid.rank}: {str(error) or type(error).__name__}"
        if saved.fault and self._grid.is_first:
            shutil.rmtree(aside, ignore_errors=True)  # give back the room that it has taken
        saved.seconds = time.monotonic() - started

    def _commit(self, aside: Path, step: int, parts: list[Entries]) -> str | None:
        """Move `latest` to the checkpoint and remove old ones; if that fails, return why."""
        try:
            checkpoint.commit(aside, {name: entry for part in parts for name, entry in part.items()})
        except Exception as error:  # the other ranks wait for this one's word
            return str(error) or type(error).__name__
        try:
            checkpoint.prune(self._run_dir, step, self._keep_last, self._keep_every_steps)
        except OSError as error:
            log.warning("old checkpoints stay: %s", error)
        return None
