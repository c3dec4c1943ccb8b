"""This commit against another: steps, generation, operations and plans, and what no change can beat.

    make bench-performance BASE=folder                  a checkout of the other commit; 15 minutes on an idle core
    make bench-performance BASE=folder ONLY='step'      those rows whose names begin so

Both commits are driven in turn in the same run, in processes of one thread; seconds are processor time, medians. Rows
that have been measured for these two commits are kept in runs/performance.json and not measured again: the first commit
named is the last one that has changed what is measured. The table goes into docs/performance.md, the planned steps as a
picture beside it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.performance.worker import Job
from tools.plots import Bar, draw_steps
from tools.recipe_table import put_between
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
PAGE, PICTURE = ROOT / "docs/performance.md", ROOT / "docs/images/steps.png"
KEPT = ROOT / "runs/performance.json"
BEGIN, END = "<!-- performance: make bench-performance BASE=folder -->", "<!-- /performance -->"
FREE = ["loss.no_vgg=true", "loss.vgg_weights=", "flow.network=dis", "flow.weights=", "run.device=cpu"]
SMALL, LARGE = (256, 128), (512, 256)
NARROW = ["generator.ngf=4", "discriminator.ndf=2", "optim.label_conv=dense"]  # as tests/engine/test_operations.py
CODE = ("vid2vid_dist", "configs", "tools/performance")  # what is measured
N_WARM_UP = 1  # step: the first one makes the optimisers' state


@dataclass(frozen=True)
class Row:
    """`rounds`: of which the median counts."""

    name: str
    job: Job
    rounds: int = 1


@dataclass(frozen=True)
class Cells:
    """Of this commit, of the other one, and the bound, as text; a dash where there is none."""

    now: str
    then: str
    bound: str


def street(kind: str, size: tuple[int, int], overrides: list[str], **more: Any) -> Job:
    return Job(kind, "configs/street/512.yaml", size, [*FREE, *overrides], **more)


def rows() -> Iterator[Row]:
    for size, rounds in ((SMALL, 7), (LARGE, 3)):
        yield Row(f"step, {_by(size)}, ngf 32, two frames", street("step", size, ["generator.ngf=32"]), rounds)
    for size, ngf, rounds in ((SMALL, 32, 15), (LARGE, 32, 7), (SMALL, 128, 5)):
        yield Row(f"generated frame, {_by(size)}, ngf {ngf}", street("generation", size, [f"generator.ngf={ngf}"]),
                  rounds)
    yield Row("operations of a step, one frame", street("operations", SMALL, NARROW, n_frames=1))
    for width in (512, 1024, 2048):
        for n_lanes in (1, 2):
            yield Row(f"plan of street/{width}, {n_lanes} lane{'s' * (n_lanes > 1)}",
                      Job("plan", f"configs/street/{width}.yaml", (width, width // 2), n_lanes=n_lanes))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


class Worker:
    """A process that drives a checkout."""

    def __init__(self, checkout: Path, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.performance.worker", str(checkout), json.dumps(asdict(job))], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def step(self) -> float | None:
        """Processor seconds; None where this checkout cannot be driven so."""
        assert self._process.stdin
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self.line()
        return float(line) if line else None

    def line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def once(checkout: Path, job: Job) -> Any:
    """What a worker says; None where the checkout cannot be driven so."""
    worker = Worker(checkout, job)
    line = worker.line()
    worker.close()
    return json.loads(line) if line else None


def in_turn(here: Path, base: Path, row: Row) -> tuple[float | None, float | None]:
    """Median seconds of both, stepped one after the other, in changing order."""
    workers = [Worker(checkout, row.job) for checkout in (here, base)]
    found: list[list[float]] = [[], []]
    for number in range(N_WARM_UP + row.rounds):
        for which in ((0, 1), (1, 0))[number % 2]:
            seconds = workers[which].step()
            if seconds is not None and number >= N_WARM_UP:
                found[which].append(seconds)
    for worker in workers:
        worker.close()
    now, then = (statistics.median(one) if one else None for one in found)
    return now, then


@dataclass(frozen=True)
class Measured:
    """`cells`: of the lines that a row makes, by their names; `steps`: bars of a plan's step, now and then."""

    cells: dict[str, Cells]
    steps: tuple[list[Bar], list[Bar]] | None = None


def measured(base: Path, row: Row) -> Measured:
    kind = row.job.kind
    if kind in ("step", "generation"):
        now, then = in_turn(ROOT, base, row)
        limit = once(ROOT, Job(**asdict(row.job) | {"kind": "bound", "of": kind}))
        note = (f"{limit['flops'] / limit['rate']:.2f} s ({limit['flops'] / 1e9:.0f} GFLOP at "
                f"{limit['rate'] / 1e9:.0f} GFLOP/s)")
        return Measured({row.name: Cells(_cell(now, "{:.2f} s"), _cell(then, "{:.2f} s"), note)})
    now, then = once(ROOT, row.job), once(base, row.job)
    if kind == "operations":
        return Measured({row.name: Cells(_cell(now, "{}"), _cell(then, "{}"), "—")})

    def of(key: str, bound: str, text: str, unit: float = 1.0) -> Cells:
        values = (found.get(name) if found else None for found, name in ((now, key), (then, key), (now, bound)))
        return Cells(*(_cell(None if value is None else unit * value, text) for value in values))

    cells = {f"{row.name}: step": of("step", "step bound", "{:.1f} ms", 1e3),
             f"{row.name}: busy": of("busy", "busy bound", "{:.0f} %", 100),
             f"{row.name}: time to find it": of("seconds", "", "{:.2f} s")}
    return Measured(cells, (now["bars"], then["bars"]) if now and then else None)


def _cell(value: float | None, text: str) -> str:
    return "—" if value is None else text.format(value)


def commit(checkout: Path, *paths: str) -> str:
    """The last one that has changed these (without any: the last one), abbreviated, with a plus where they have been
    changed since."""
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(checkout), *words, "--", *paths], capture_output=True, text=True,
                              check=True).stdout.strip()

    return git("log", "-1", "--abbrev=7", "--format=%h") + "+" * bool(git("status", "--porcelain"))


def table(here: str, base: str, found: dict[str, dict[str, str]], missing: Sequence[str] = ()) -> Iterator[str]:
    yield (f"Commit {here} against {base}, {time.strftime('%Y-%m-%d')}, {processor()}, one thread, at a load of "
           f"{os.getloadavg()[0]:.0f}.\n")
    yield from (f"| What | Now | At {base} | Bound |", "|---|---|---|---|")
    for name, cells in found.items():
        yield f"| {name} | {cells['now']} | {cells['then']} | {cells['bound']} |"
    if missing:
        yield f"\nNot measured at this commit yet: {'; '.join(missing)}."


def processor() -> str:
    """As Linux calls it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base", type=Path, help="checkout of the other commit")
    parser.add_argument("--only", default="", metavar="NAME", help="rows whose names begin so")
    args = parser.parse_args()
    if not (args.base / "vid2vid_dist").is_dir():
        raise UserError(f"{args.base} is no checkout of this project: make one by git worktree add {args.base} COMMIT")
    commits = [commit(ROOT, *CODE), commit(args.base)]
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    if kept.get("commits") != commits:
        kept = {"commits": commits, "rows": {}}
    for row in rows():
        if row.name not in kept["rows"] and row.name.startswith(args.only):
            kept["rows"][row.name] = asdict(measured(args.base, row))
            KEPT.parent.mkdir(exist_ok=True)
            KEPT.write_text(json.dumps(kept, indent=1))
        for name, cells in kept["rows"].get(row.name, {"cells": {}})["cells"].items():
            print(f"{name:50} {cells['now']:>10} {cells['then']:>10}   {cells['bound']}", flush=True)
    done = {row.name: kept["rows"][row.name] for row in rows() if row.name in kept["rows"]}
    found = {name: cells for one in done.values() for name, cells in one["cells"].items()}
    missing = [row.name for row in rows() if row.name not in done]
    put_between(PAGE, BEGIN, END, "\n".join(table(commits[0], commits[1], found, missing)))
    steps = {(name.removeprefix("plan of "), when): bars for name, one in done.items() if one["steps"]
             for when, bars in zip((f"at {commits[1]}", "now"), reversed(one["steps"]), strict=True)}
    if steps:
        draw_steps(PICTURE, steps)


if __name__ == "__main__":
    run_main(main)
