"""End a training run again and again, in every way that runs end, and see that nothing is lost.

    python -m tools.drill [--ends 60] [--kinds kill-rank term freeze …] [--in-save 6] [--ranks 4] [--seed 0]

Trains a tiny network, its roles on separate ranks. Ends of all kinds are drawn in turn, at random moments: while the
ranks start, in the middle of steps and, for SIGKILL of a rank, while a checkpoint is being written. Where torchrun does
not start the ranks anew, the same command is given again. After the last end the run is asked to stop; a second one
then makes as many steps undisturbed. Both must be the same, bit by bit; every start must have gone on from a whole
checkpoint; and what an end lost must not be more than it may: nothing where the run is asked to end, else the steps
since the last checkpoint. Prints a table; exit status 1 if anything was lost.
"""

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import torch
from safetensors.torch import load_file

from tools.drilled_run import LOOK, SAVE_EVERY, Run, disk_of_its_own, fill, lay_out, lives
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.training.checkpoint import find_fault

STARTING = 0.25  # part of the ends that hit ranks which are starting
LONGEST_LIFE = 8  # steps, if a life ends in the middle of one: some saves
SAVES_OF_A_LIFE = 3  # at most, if it ends in the last of them


class Kind(Enum):
    """What ends a run."""

    KILL_RANK = "kill-rank"
    KILL_AGENT = "kill-agent"  # torchrun
    TERM = "term"
    HUP = "hup"
    USR1 = "usr1"  # to one rank
    FREEZE = "freeze"  # of one rank
    DISK_FULL = "disk-full"

    @property
    def ends_saved(self) -> bool:
        """Whether the run knows that it is to end: not a step may be lost."""
        return self in (Kind.KILL_AGENT, Kind.TERM, Kind.HUP, Kind.USR1)

    @property
    def is_restarted(self) -> bool:
        """Whether torchrun starts the ranks anew."""
        return self in (Kind.KILL_RANK, Kind.FREEZE)


AT_ANY_TIME = (Kind.KILL_RANK, Kind.KILL_AGENT, Kind.TERM)  # also while ranks start


@dataclass(frozen=True)
class Pace:
    """Seconds from when the ranks are there until they have made a step, of a step, and of a save."""

    start: float
    step: float
    save: float


@dataclass
class End:
    """What was done to the run, and what came of it. Steps: made in this life, lost of them, that may be lost."""

    kind: Kind
    rank: int
    moment: str
    in_save: bool
    named: str  # the checkpoint that `latest` named when all ranks were dead
    made: int = 0
    lost: int = 0
    may_lose: int = 0
    started_by: str = ""
    seconds: float = 0.0  # until all ranks were there again


@dataclass
class Outcome:
    """Of a drill: `kept` steps of all that were `made`; `resumes`: how often the run went on from a checkpoint."""

    ends: list[End] = field(default_factory=list)
    kept: int = 0
    made: int = 0
    resumes: int = 0

    @property
    def beyond(self) -> int:
        """Steps that were lost and may not have been."""
        return sum(max(0, end.lost - end.may_lose) for end in self.ends)

    def __str__(self) -> str:
        kinds = ", ".join(f"{sum(end.kind is kind for end in self.ends)} {kind.value}" for kind in Kind)
        return (f"{len(self.ends)} ends ({kinds}), {sum(end.in_save for end in self.ends)} inside a save; goodput "
                f"{self.kept}/{self.made} steps = {self.kept / self.made:.3f}; {self.resumes} resumes; lost beyond the "
                f"last checkpoint's interval: {self.beyond} steps")


def drill(ended: Run, kinds: Iterable[Kind], n_in_save: int, seed: int) -> Outcome:
    """Start a run, end it in these ways, and compare it with another beside it. Raises `AssertionError` that says what
    was lost.
    """
    root, outcome = ended.folder.parent, Outcome()
    lay_out(root)
    with disk_of_its_own(ended.folder) as may_fill:
        if not may_fill:
            print(f"{Kind.DISK_FULL.value} is left out: file systems are mounted by root only")
            kinds = (kind for kind in kinds if kind is not Kind.DISK_FULL)
        try:
            for end in _ends(ended, random.Random(seed), kinds, n_in_save):
                outcome.ends.append(end)
                print(_row(len(outcome.ends), end), flush=True)
            assert ended.wait_for_steps(1), "no step is made"
            (ended.folder / "stop").touch()
            ended.finish()
        except AssertionError:
            print(ended.tell(), file=sys.stderr)
            raise
        finally:
            ended.stop()
        outcome.kept, outcome.made = ended.saved_step(), ended.n_reports()
        whole = Run(root / "whole", ended.n_ranks, outcome.kept)
        whole.start()
        whole.finish()
        _compare(whole, ended)
        outcome.resumes = _check_resumes(ended, outcome.ends)
    return outcome


def deal(draw: random.Random, kinds: Sequence[Kind]) -> Iterator[Kind]:
    """All kinds in a random order, again and again."""
    while True:
        yield from draw.sample(kinds, len(kinds))


def _ends(run: Run, draw: random.Random, kinds: Iterable[Kind], n_in_save: int) -> Iterator[End]:
    """End the run in these ways; each end comes with the run alive again."""
    born = time.time()
    run.start()
    pids = run.wait_for_ranks({})
    pace = _measure(run)
    n_saves = n_before = step_before = 0
    for number, kind in enumerate(kinds):
        victim = draw.randrange(run.n_ranks)
        # A kill that comes too late for its save is tried again.
        if kind is Kind.KILL_RANK and n_saves < n_in_save:
            moment = "just after a save"
            run.wait_for_saves(born, draw.randint(1, SAVES_OF_A_LIFE))
            time.sleep(draw.uniform(0, pace.save / 2))
        elif number > 0 and kind in AT_ANY_TIME and draw.random() < STARTING:
            moment = "first step" if run.wait_for_steps(1, draw.uniform(0, pace.start)) else "ranks starting"
        else:
            moment = "steps"
            assert run.wait_for_steps(draw.randint(1, LONGEST_LIFE)), "no step is made"
            time.sleep(draw.uniform(0, pace.step))
        assert run.ranks() == pids, "ranks have ended by themselves"
        started, n_starts = time.monotonic(), run.starts
        if kind is Kind.DISK_FULL:
            excused = _end_on_a_full_disk(run, pids)
        else:
            _end(run, kind, pids[victim])
            excused = 0 if kind.ends_saved else 2 * SAVE_EVERY  # of the last one, and of one that was being written
        # What still lies aside now was not in force when the victim died.
        saving = run.being_saved(born) if kind is Kind.KILL_RANK else []
        run.wait_for_death(pids)
        named = run.newest()
        fault = find_fault(run.checkpoints / named) if named else None
        assert fault is None, f"{named} was announced, but is not whole: {fault}"
        if not kind.is_restarted and moment != "ranks starting":
            wanted = "preempted" if kind.ends_saved else "failed"
            assert run.status() == wanted, f"after {kind.value}, status.json says {run.status()}"
        n_saves += bool(saving)
        end = End(kind, victim, f"inside the save of {saving[0]}" if saving else moment, bool(saving), named,
                  run.n_reports() - n_before, step_before + run.n_reports() - n_before - run.saved_step(), excused)
        assert end.lost <= end.may_lose, f"{end.lost} steps were lost by {kind.value}, {end.may_lose} may be"
        n_before, step_before, born = run.n_reports(), run.saved_step(), time.time()
        pids = run.wait_for_ranks(pids)
        end.started_by = "torchrun" if run.starts == n_starts else "next start"
        end.seconds = time.monotonic() - started
        yield end


def _end(run: Run, kind: Kind, victim: int) -> None:
    match kind:
        case Kind.KILL_RANK:
            os.kill(victim, signal.SIGKILL)
            while lives(victim):
                time.sleep(LOOK / 10)
        case Kind.FREEZE:
            os.kill(victim, signal.SIGSTOP)
        case Kind.USR1:
            os.kill(victim, signal.SIGUSR1)
        case Kind.KILL_AGENT | Kind.TERM | Kind.HUP:
            run.signal({Kind.KILL_AGENT: signal.SIGKILL, Kind.TERM: signal.SIGTERM, Kind.HUP: signal.SIGHUP}[kind])


def _end_on_a_full_disk(run: Run, pids: dict[int, int]) -> int:
    """The disk is full, a save fails, the run is asked to end, and cannot save that either. Steps that may be lost:
    those since then, and since the checkpoint before.
    """
    before, failures = run.n_reports(), run.log().count("could not be saved")
    ballast = fill(run.folder)
    assert run.wait_until(lambda: run.log().count("could not be saved") > failures), "no save has failed"
    run.signal(signal.SIGTERM)
    run.wait_for_death(pids)
    ballast.unlink()
    return run.n_reports() - before + 2 * SAVE_EVERY


def _measure(run: Run) -> Pace:
    """Of the run's first life, until it has saved twice."""
    there = time.time()

    def saves() -> list[float]:
        return [record["seconds"] for record in run.journal() if record.get("event", "").startswith("saved ")]

    assert run.wait_until(lambda: len(saves()) >= 2), "no checkpoint is written"
    times = [record["time"] for record in run.journal() if "losses" in record]
    return Pace(times[0] - there, (times[-1] - times[0]) / (len(times) - 1), sum(saves()) / len(saves()))


def _compare(whole: Run, ended: Run) -> None:
    """Every tensor of the last checkpoints: weights, masters, moments, average, clips in flight."""
    assert whole.newest() == ended.newest(), (whole.newest(), ended.newest())
    a, b = (_tensors(run.checkpoints / run.newest()) for run in (whole, ended))
    assert a.keys() == b.keys()
    differing = [name for name, x in a.items() if not torch.equal(x, b[name])]
    assert not differing, f"not the same after {whole.newest()}: {differing}"
    print(f"{len(a)} tensors of {whole.newest()} are the same bit by bit as those of the run that nobody disturbed")


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {f"{path.relative_to(folder)}:{name}": x for path in sorted(folder.rglob("*.safetensors"))
            for name, x in load_file(path).items()}


def _check_resumes(run: Run, ends: list[End]) -> int:
    """Every start went on from a checkpoint that had been whole, and none was found damaged; how many did."""
    assert "is damaged" not in run.log(), "a torn checkpoint was found"
    events = [record.get("event", "") for record in run.journal()]
    resumed = [event.split(": step")[0].rsplit("/", 1)[1] for event in events if event.startswith("resumed from")]
    unknown = set(resumed) - {end.named for end in ends}
    assert not unknown, f"went on from {unknown}, which no end had left as the newest"
    return len(resumed)


def _row(number: int, end: End) -> str:
    return (f"{number:3d}  {end.kind.value:<10}  rank {end.rank}  {end.moment:<32}  {end.made:5d}  {end.lost:4d}  "
            f"{end.named or 'none':<13}  {end.started_by:<10}  {end.seconds:5.1f} s")


HEAD = f"end  kind        rank    {'moment':<32}  steps  lost  newest then    started by  back after"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ends", type=int, default=60, metavar="N")
    parser.add_argument("--kinds", nargs="+", default=[kind.value for kind in Kind], choices=[k.value for k in Kind])
    parser.add_argument("--in-save", type=int, default=6, metavar="N",
                        help="first, kills of ranks while a checkpoint is written")
    parser.add_argument("--ranks", type=int, default=4, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(HEAD)
    started = time.monotonic()
    kinds = itertools.islice(deal(random.Random(args.seed), [Kind(name) for name in args.kinds]), args.ends)
    with tempfile.TemporaryDirectory(prefix="drill.") as folder:
        outcome = drill(Run(Path(folder) / "ended", args.ranks), kinds, args.in_save, args.seed)
    print(f"{outcome}; {time.monotonic() - started:.0f} s")
    return 0 if outcome.beyond == 0 else 1


if __name__ == "__main__":
    run_main(main)
