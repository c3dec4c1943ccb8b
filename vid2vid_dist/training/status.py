"""`runs/NAME/status.json`: how a run goes or has ended. Batch scripts read it: torchrun passes no exit status on."""

from __future__ import annotations

import json
from pathlib import Path

from vid2vid_dist.errors import LostRankError, UserError
from vid2vid_dist.monitor.logs import nonfatal
from vid2vid_dist.training.checkpoint import Position, write_atomically
from vid2vid_dist.untrusted import is_whole, parse_json, read_text

MAX_BYTES = 2**20


def count_restarts(run_dir: Path) -> int:
    """How often the run has been taken up again, this start included."""
    known = _read(run_dir / "status.json")
    before = known.get("restarts", 0)
    return (before if is_whole(before) else 0) + 1 if known else 0


def _read(path: Path) -> dict:
    """What the file says; nothing if it is none of ours."""
    try:
        found = parse_json(read_text(path, MAX_BYTES))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Status:
    """Writes the file. Keys: `status` (running, finished, preempted, stopped, failed), `step` and `epoch` (of a
    running run: of its newest checkpoint), `restarts` (how often the run was taken up again), `why` and, of a
    failed one, `cause` ("error", or "lost rank" when only the absence of another rank was seen).
    """

    def __init__(self, run_dir: Path, rank: int, restarts: int) -> None:
        self._path, self._rank, self._restarts = run_dir / "status.json", rank, restarts

    def write_running(self, at: Position) -> None:
        """The newest checkpoint is that of `at`."""
        with nonfatal("status.json"):
            self.write("running", at)

    def write_end(self, status: str, at: Position, **more: str) -> None:
        """How the run has ended. Raises `UserError` if it cannot be written: readers would take the run for running."""
        try:
            self.write(status, at, **more)
        except OSError as error:
            raise UserError(f"the run is {status} and saved at step {at.step}, but {self._path} cannot say so "
                            f"({error}): free some space, and give the same command again") from None

    def write(self, status: str, at: Position, **more: str) -> None:
        """Replace the file. Raises `OSError`."""
        known = {"status": status, "step": at.step, "epoch": at.epoch, "restarts": self._restarts, **more}
        write_atomically(self._path, json.dumps(known, indent=1))

    def write_failure(self, error: BaseException, at: Position, finding: str = "") -> None:
        """Any rank may be the one that fails. The first one to write says why; "lost rank", seldom the root cause,
        gives way to an error.
        """
        cause = "lost rank" if isinstance(error, LostRankError) else "error"
        known = _read(self._path)
        if known.get("status") != "failed" or (known.get("cause"), cause) == ("lost rank", "error"):
            rank = "" if cause == "lost rank" else f"rank {self._rank}: "  # which says it itself
            why = f"{rank}{str(error) or type(error).__name__}"
            with nonfatal("status.json"):
                self.write("failed", at, cause=cause, why=f"{finding}; {why}" if finding and not rank else why)
