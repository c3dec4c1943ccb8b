"""Kill a training run again and again, and see that nothing is lost.

    python -m tools.drill [--kills 30] [--in-save 6] [--ranks 4] [--seed 0]

Trains a tiny network, its roles on separate ranks, with SIGKILL for a random rank at random moments: while the ranks
start, in the middle of steps, while a checkpoint is being written. torchrun starts the ranks anew; when it has done so
four times it gives up, and the same command is given again. All starts run a copy of the code: a file that is edited
meanwhile would meet the next one. After the last kill the run is asked to stop; a second one
then makes as many steps undisturbed. Both must be the same, bit by bit, and every start must have gone on from a whole
checkpoint. Prints a table; exit status 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street
from vid2vid_dist.training.checkpoint import find_fault

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    "data.loadSize=64", "data.workers=0", "generator.ngf=4", "generator.n_blocks=2", "generator.n_downsample_G=2",
    "generator.fg=false", "generator.n_scales_spatial=2", "discriminator.ndf=4", "discriminator.n_scales_temporal=1",
    "loss.no_vgg=true", "optim.ema_decay=0.9", "schedule.n_frames_total=6", "schedule.n_generator_slots=2",
    "schedule.niter=1000", "schedule.niter_decay=0", "run.device=cpu", "run.save_every_steps=2",
    "monitor.log_every=1", "monitor.pictures_every=0", "monitor.tensorboard=false", "parallel.timeout=1",
]
CODE = ("launch", "vid2vid_dist", "configs")
RESTARTS = 4  # by one torchrun
STARTING = 0.25  # part of the kills that hit ranks which are starting
LONGEST_LIFE = 8  # steps, if a life ends in the middle of one: some saves
SAVES_OF_A_LIFE = 3  # at most, if it ends in the last of them
LOOK = 0.002  # seconds between two looks at a save, which takes a tenth of a second
TAIL = 300  # lines of the log that are shown when something went wrong; torchrun's summary takes thirty
LOOK_AT_JOURNAL = 0.02  # it grows to some hundred kilobytes


@dataclass(frozen=True)
class Pace:
    """Seconds from when the ranks are there until they have made a step, of a step, and of a save."""

    start: float
    step: float
    save: float


@dataclass
class Kill:
    """What was done to the run, and what came of it."""

    rank: int
    moment: str
    in_save: bool
    named: str  # the checkpoint that `latest` named when all ranks were dead
    started_by: str = ""
    seconds: float = 0.0  # until all ranks were there again


class Run:
    """A training run in processes of its own, of the code in `folder`'s neighbour `code`."""

    def __init__(self, folder: Path, n_ranks: int, n_steps: int = 0) -> None:
        self.folder, self.n_ranks, self._code = folder, n_ranks, folder.parent / "code"
        n_discriminators = n_ranks // 2
        placement = f"split:{n_ranks - n_discriminators}+{n_discriminators}"
        self._command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n_ranks}",
            f"--max-restarts={RESTARTS}", str(self._code / "launch/train.py"), *TINY, f"run.max_steps={n_steps}",
            f"data.shards={folder.parent / 'shards'}", f"run.root={folder.parent}", f"run.name={folder.name}",
            f"parallel.placement={placement}", "parallel.clips_per_step=2", "parallel.pipelines=1"]
        self._job: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        # Without the variable a restart now and then meets the store of the ranks that are gone (pytorch #135712).
        known = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(self._code), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as output:
            self._job = subprocess.Popen(self._command, env={**os.environ, **known}, stdout=output, stderr=output)

    def is_over(self) -> bool:
        return self._job is None or self._job.poll() is not None

    def finish(self) -> None:
        """Let it come to its end, started again as often as it takes."""
        while True:
            assert self._job is not None
            if self._job.wait() == 0:
                return
            assert self.starts < 100, f"the run does not come to its end: {self.folder}.log"
            self.start()

    def stop(self) -> None:
        if self._job is not None and self._job.poll() is None:
            self._job.terminate()  # torchrun takes its ranks with it
            self._job.wait()

    def ranks(self) -> dict[int, int]:
        """Processes of the ranks that are alive."""
        assert self._job is not None
        found = {}
        for child in _read(Path(f"/proc/{self._job.pid}/task/{self._job.pid}/children")).split():
            for entry in _read(Path(f"/proc/{child}/environ")).split("\0"):
                if entry.startswith("RANK="):
                    found[int(entry.removeprefix("RANK="))] = int(child)
        return found

    def wait_until(self, condition: Callable[[], bool], look: float = LOOK_AT_JOURNAL, seconds: float = 120) -> bool:
        """Look again and again until something has happened, or the time is over; whether it has happened."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            assert not self.is_over(), "the run ended by itself"
            time.sleep(look)
        return False

    def wait_for_saves(self, born: float, n_saves: int) -> None:
        """Until the ranks that were started at `born` write their checkpoint number `n_saves`."""
        for number in range(n_saves):
            begun = self.wait_until(lambda: bool(self.being_saved(born)), LOOK)
            assert begun, "no checkpoint is written"
            if number < n_saves - 1:
                self.wait_until(lambda: not self.being_saved(born), LOOK)

    def wait_for_steps(self, n_steps: int, seconds: float = 120) -> bool:
        """Until so many steps more are reported, or the time is over; whether they are."""
        n_reports = self.n_reports()
        return self.wait_until(lambda: self.n_reports() >= n_reports + n_steps, seconds=seconds)

    def tell(self) -> str:
        """All that there is to know when a run does not do as it should."""
        ended = self._job.poll() if self._job is not None else None
        state = "runs" if ended is None else f"exit status {ended}"
        return "\n".join([
            *self.log().splitlines()[-TAIL:],
            f"torchrun, start {self.starts}: {state}; ranks: {self.ranks()}",
            f"status.json: {_read(self.folder / 'status.json')}",
            f"latest: {self.newest() or 'none'}; checkpoints: "
            f"{', '.join(sorted(path.name for path in self.checkpoints.glob('*step_*')))}"])

    def log(self) -> str:
        return _read(self.folder.parent / f"{self.folder.name}.log")

    def n_reports(self) -> int:
        """Steps that were reported, in all lives."""
        return _read(self.folder / "metrics.jsonl").count('"losses"')

    def journal(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl."""
        lines = _read(self.folder / "metrics.jsonl").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def newest(self) -> str:
        return _read(self.checkpoints / "latest").strip()

    def being_saved(self, born: float) -> list[str]:
        """Checkpoints that the ranks started at `born` (seconds since 1970) write, or wrote when they died."""
        found = []
        for path in self.checkpoints.glob(".step_*"):
            try:
                if path.stat().st_mtime >= born:
                    found.append(path.name.lstrip("."))
            except FileNotFoundError:  # it has become a checkpoint
                continue
        return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):  # it is not there yet, or no more
        return ""


def drill(root: Path, n_kills: int, n_in_save: int, n_ranks: int, seed: int) -> list[Kill]:
    """Both runs, in `root`. Raises `AssertionError` that says what was lost."""
    render_toy_street(root / "raw", ToyOptions(n_train=3, n_test=1, n_frames=8, width=64, height=32))
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35))
    for folder in CODE:
        shutil.copytree(ROOT / folder, root / "code" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    killed = Run(root / "killed", n_ranks)
    kills: list[Kill] = []
    try:
        for kill in _kills(killed, random.Random(seed), n_kills, n_in_save):
            kills.append(kill)
            print(_row(len(kills), kill), flush=True)
        assert killed.wait_for_steps(1), "no step is made"
        (killed.folder / "stop").touch()
        killed.finish()
    except AssertionError:
        print(killed.tell(), file=sys.stderr)
        raise
    finally:
        killed.stop()
    whole = Run(root / "whole", n_ranks, int(killed.newest().removeprefix("step_")))
    whole.start()
    whole.finish()
    _compare(whole, killed)
    _check_resumes(killed, kills)
    return kills


def _kills(run: Run, draw: random.Random, n_kills: int, n_in_save: int) -> Iterator[Kill]:
    """Kill until it is enough; each kill comes with the run alive again, or started again."""
    born = time.time()
    run.start()
    pids = _wait_for_ranks(run, {})
    pace = _measure(run)
    n_saves = 0
    for number in range(n_kills):
        victim, starting = draw.randrange(run.n_ranks), number > 0 and draw.random() < STARTING
        # Kills inside a save are spread over the drill; one that comes too late for its save is tried again.
        wants_save = n_saves < n_in_save and (number + 1) * n_in_save >= (n_saves + 1) * n_kills - n_in_save
        if wants_save:
            moment = "just after a save"
            run.wait_for_saves(born, draw.randint(1, SAVES_OF_A_LIFE))
            time.sleep(draw.uniform(0, pace.save / 2))
        elif starting:
            moment = "first step" if run.wait_for_steps(1, draw.uniform(0, pace.start)) else "ranks starting"
        else:
            moment = "steps"
            assert run.wait_for_steps(draw.randint(1, LONGEST_LIFE)), "no step is made"
            time.sleep(draw.uniform(0, pace.step))
        assert run.ranks() == pids, "ranks have ended by themselves"
        os.kill(pids[victim], signal.SIGKILL)
        died, n_starts = time.monotonic(), run.starts
        while _lives(pids[victim]):
            time.sleep(LOOK / 10)
        # What still lies aside now was not in force when the victim died.
        saving = run.being_saved(born)
        while any(Path(f"/proc/{pid}").exists() for pid in pids.values()):
            time.sleep(LOOK)
        named = run.newest()
        fault = find_fault(run.checkpoints / named) if named else None
        assert fault is None, f"{named} was announced, but is not whole: {fault}"
        n_saves += bool(saving)
        kill = Kill(victim, f"inside the save of {saving[0]}" if saving else moment, bool(saving), named)
        born = time.time()
        pids = _wait_for_ranks(run, pids)
        kill.started_by = "torchrun" if run.starts == n_starts else "next start"
        kill.seconds = time.monotonic() - died
        yield kill


def _measure(run: Run) -> Pace:
    """Of the run's first life, until it has saved twice."""
    there = time.time()

    def saves() -> list[float]:
        return [record["seconds"] for record in run.journal() if record.get("event", "").startswith("saved ")]

    assert run.wait_until(lambda: len(saves()) >= 2), "no checkpoint is written"
    times = [record["time"] for record in run.journal() if "losses" in record]
    return Pace(times[0] - there, (times[-1] - times[0]) / (len(times) - 1), sum(saves()) / len(saves()))


def _lives(pid: int) -> bool:
    """Whether a process runs: it is neither gone nor waits to be taken note of."""
    state = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return bool(state) and state[0] not in ("Z", "X")


def _wait_for_ranks(run: Run, last: dict[int, int]) -> dict[int, int]:
    """Processes of all ranks, none of which is of the life before."""
    end = time.monotonic() + 120
    while True:
        found = run.ranks()
        if len(found) == run.n_ranks and not set(found.values()) & set(last.values()):
            return found
        if run.is_over():  # torchrun has given up
            run.start()
        assert time.monotonic() < end, f"the ranks do not come back: {run.folder}.log"
        time.sleep(LOOK_AT_JOURNAL)


def _compare(whole: Run, killed: Run) -> None:
    """Every tensor of the last checkpoints: weights, masters, moments, average, clips in flight."""
    assert whole.newest() == killed.newest(), (whole.newest(), killed.newest())
    a, b = (_tensors(run.checkpoints / run.newest()) for run in (whole, killed))
    assert a.keys() == b.keys()
    differing = [name for name, x in a.items() if not torch.equal(x, b[name])]
    assert not differing, f"not the same after {whole.newest()}: {differing}"
    print(f"{len(a)} tensors of {whole.newest()} are the same bit by bit as those of the run that nobody disturbed")


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {f"{path.relative_to(folder)}:{name}": x for path in sorted(folder.rglob("*.safetensors"))
            for name, x in load_file(path).items()}


def _check_resumes(run: Run, kills: list[Kill]) -> None:
    """Every start went on from a checkpoint that had been whole, and none was found damaged."""
    assert "is damaged" not in run.log(), "a torn checkpoint was found"
    events = [record.get("event", "") for record in run.journal()]
    resumed = [event.split(": step")[0].rsplit("/", 1)[1] for event in events if event.startswith("resumed from")]
    unknown = set(resumed) - {kill.named for kill in kills}
    assert not unknown, f"went on from {unknown}, which no kill had left as the newest"
    print(f"{len(resumed)} times gone on from a checkpoint, each whole and the newest")


def _row(number: int, kill: Kill) -> str:
    return (f"{number:4d}  rank {kill.rank}  {kill.moment:<38}  {kill.named or 'none':<14}  {kill.started_by:<10}  "
            f"{kill.seconds:5.1f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, metavar="N")
    parser.add_argument("--in-save", type=int, default=6, metavar="N", help="of these while a checkpoint is written")
    parser.add_argument("--ranks", type=int, default=4, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("kill  rank    moment                                  newest then     started by  back after")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="drill.") as folder:
        kills = drill(Path(folder), args.kills, args.in_save, args.ranks, args.seed)
    n_in_save = sum(kill.in_save for kill in kills)
    print(f"{len(kills)} kills, {n_in_save} inside a save, in {time.monotonic() - started:.0f} s")
    return 0 if n_in_save >= args.in_save else 1


if __name__ == "__main__":
    run_main(main)
