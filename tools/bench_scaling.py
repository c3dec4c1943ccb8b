"""How cost grows: planning with the tasks of a step, training with frames, lanes, ranks, clips and pixels.

    python -m tools.bench_scaling                   print the tables; 10 minutes on two idle cores
    python -m tools.bench_scaling docs/scaling.md   put them there, and the drawing beside

Seconds are processor time of all ranks: ranks that outnumber the cores take turns, so the clock would tell of the
machine. An exponent is the slope with both scales logarithmic: 1 is in proportion, 0 does not grow.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tools.bench_plan import known_costs
from tools.one_node import torchrun
from tools.plots import draw
from tools.recipe_table import put_between
from tools.scaling_worker import Case, Found
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.data.columns import Counts, map_columns, new_columns
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import make_plan
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.tasks import steady_shape
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

BEGIN, END = "<!-- growth: make bench-scaling DOC=docs/scaling.md -->", "<!-- /growth -->"
PICTURE = "images/growth.png"
N_RANKS = (1, 2, 4, 8)
N_VIDEOS = 8  # as many as there are lanes and ranks at most
COPIES = (1, 100, 10_000)  # of the set, in one index


@dataclass(frozen=True)
class Step:
    """Ranks of one pipeline, lanes, and frames of a chunk."""

    n_ranks: int
    n_lanes: int
    n_frames: int


MORE_RANKS = (Step(8, 1, 6), Step(4, 4, 6), Step(16, 16, 6), Step(64, 64, 6), Step(256, 256, 6), Step(1024, 1024, 6))
LONGER = (Step(8, 1, 8), Step(8, 1, 80), Step(8, 1, 800), Step(8, 1, 6000))


def planning_seconds(specs: RoleSpecs, costs: Costs, step: Step) -> tuple[int, float]:
    """Tasks of a step, and seconds of this process to plan it and simulate it."""
    started = time.process_time()
    tasks = step_tasks(specs, steady_shape(step.n_lanes, step.n_frames))
    plan = make_plan(tasks, colocated(specs, step.n_ranks), costs)
    simulate(plan)
    return len(tasks), time.process_time() - started


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope in a drawing with both scales logarithmic."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


@dataclass(frozen=True)
class Growth:
    """Seconds against the size of something."""

    title: str
    sizes: Sequence[float]
    seconds: Sequence[float]
    why: str = ""

    def row(self) -> str:
        return (f"| {self.title} | {self.sizes[0]:g} to {self.sizes[-1]:g} | {self.seconds[0]:.3g} to "
                f"{self.seconds[-1]:.3g} | {exponent(self.sizes, self.seconds):.2f} | "
                f"{exponent(self.sizes[-2:], self.seconds[-2:]):.2f} | {self.why} |")


def planning() -> Iterator[Growth]:
    specs, costs = known_costs(512)
    for title, steps in (("Planning a step, by its tasks: more ranks and lanes", MORE_RANKS),
                         ("Planning a step, by its tasks: longer chunks", LONGER)):
        measured = []
        for step in steps:
            # The smallest step of some: what else goes on weighs most in short times.
            measured.append(min((planning_seconds(specs, costs, step) for _ in range(3 if step.n_ranks < 64 else 1)),
                                key=lambda found: found[1]))
            print(f"{step.n_ranks:5d} ranks {step.n_lanes:5d} lanes {step.n_frames:5d} frames: {measured[-1][0]:7d} "
                  f"tasks {measured[-1][1]:8.3f} s", flush=True)
        sizes, seconds = zip(*measured, strict=True)
        sorting = exponent(sizes, [n * np.log(n) for n in sizes])
        yield Growth(title, sizes, seconds, f"orders are sorted: n·log n comes to {sorting:.2f} here")


def make_set(folder: Path) -> list[str]:
    """A small set, and what all trainings are given."""
    render_toy_street(folder / "raw", ToyOptions(n_train=N_VIDEOS, n_test=1, n_frames=18, width=128, height=64))
    make_shards(folder / "raw", folder / "shards", PackOptions(label_nc=35))
    return [f"data.shards={folder / 'shards'}", *_chunk(2)]


def alone(folder: Path, given: list[str]) -> Iterator[Growth]:
    """Small steps on one rank."""
    cases = [
        *(Case("frames of a chunk", n, [*given, *_chunk(n)]) for n in (2, 4, 8, 16)),
        *(Case("lanes", n, [*given, f"parallel.clips_per_step={n}"]) for n in (1, 2, 4, 8)),
        *(Case("pixels", n * n // 2, [*given, f"data.loadSize={n}"]) for n in (64, 128, 256)),
        *(Case("clips in the index", N_VIDEOS * n, [*given, f"data.shards={copied(folder, n)}"]) for n in COPIES)]
    _, *found = ranks(folder, 1, [Case("warming up", 1, given, n_steps=1), *cases])
    for title in dict.fromkeys(case.title for case in cases):
        yield _growth(f"A training step, by {title}", [one for one in found if one.title == title])
    clips = [one for one in found if one.title == "clips in the index"]
    yield Growth("Getting ready, by clips in the index", [one.size for one in clips], [one.ready for one in clips])


def together(folder: Path, given: list[str]) -> Iterator[Growth]:
    """The same step on more ranks, each with a clip of its own."""
    started, found = [], []
    for n in N_RANKS:
        started.append(time.time())
        found += ranks(folder, n, [Case("ranks", n, given)])
    several = exponent([one.size for one in found[1:]], [one.step for one in found[1:]])
    yield _growth("A training step, by ranks, a clip each", found,
                  f"one rank has nobody to reduce gradients with; from {found[1].size} ranks on {several:.2f}")
    yield Growth("Getting ready, by ranks", N_RANKS, [one.ready for one in found])
    yield Growth("Until the first step is done, by ranks, on the clock", N_RANKS,
                 [one.began - start for one, start in zip(found, started, strict=True)])
    yield Growth("GB of all ranks, by ranks", N_RANKS, [one.memory / 1e9 for one in found])


def _chunk(n_frames: int) -> list[str]:
    return [f"schedule.n_frames_total={n_frames}", f"schedule.max_frames_per_rank={n_frames}"]


def _growth(title: str, found: Sequence[Found], why: str = "") -> Growth:
    return Growth(title, [one.size for one in found], [one.step for one in found], why)


def ranks(folder: Path, n_ranks: int, cases: list[Case]) -> list[Found]:
    """Train under torchrun."""
    given, out = folder / "cases.json", folder / f"found_{n_ranks}.json"
    given.write_text(json.dumps([asdict(case) for case in cases]))
    subprocess.run([*torchrun(n_ranks), "-m", "tools.scaling_worker", str(given), str(out)], check=True,
                   stdout=subprocess.DEVNULL)
    return [Found(**one) for one in json.loads(out.read_text())]


def copied(folder: Path, times: int) -> Path:
    """The same tars behind an index that names each of their videos so many times."""
    copy = folder / f"shards_{times}"
    shutil.copytree(folder / "shards", copy)
    index = copy / "train/index.json"
    raw = json.loads(index.read_text())
    n_frames, n_videos = raw["counts"]["frames"], raw["counts"]["videos"]
    old = map_columns(str(copy), index.parent / raw["columns"], Counts(len(raw["modalities"]), **raw["counts"]))
    raw["columns"] = "columns-copied.bin"
    raw["counts"] = {name: times * n for name, n in raw["counts"].items()}
    new, pages = new_columns(index.parent / raw["columns"], Counts(len(raw["modalities"]), **raw["counts"]))
    new.entries[:] = np.tile(old.entries, times)
    new.videos[:] = np.tile(old.videos, times)
    new.videos["end"] = np.cumsum(np.tile(old.lengths, times))
    lengths, end = np.diff(old.ends.astype(np.int64), prepend=0), int(old.ends[n_frames - 1])
    new.ends[:] = np.cumsum([*np.tile(lengths[:n_frames], times), *np.tile(lengths[n_frames:], times)])
    new.text[:] = np.concatenate([np.tile(old.text[:end], times), np.tile(old.text[end:], times)])
    pages.flush()
    assert len(new.videos) == times * n_videos
    index.write_text(json.dumps(raw))
    return copy


def report(growths: Sequence[Growth]) -> Iterator[str]:
    yield (f"On {os.cpu_count()} cores at a load of {os.getloadavg()[0]:.0f}; seconds of processor time of all ranks, "
           "where nothing else is said.\n")
    yield f"![How costs grow with what is made larger]({PICTURE})\n"
    yield from ("| What grows | Sizes | Seconds | Exponent | of the last two | |", "|---" * 6 + "|")
    yield from (growth.row() for growth in growths)


def main() -> None:
    growths = list(planning())
    with tempfile.TemporaryDirectory(prefix="bench.") as folder:
        given = make_set(Path(folder))
        for growth in (*alone(Path(folder), given), *together(Path(folder), given)):
            print(growth.row(), flush=True)
            growths.append(growth)
    if len(sys.argv) > 1:
        put(Path(sys.argv[1]), growths)


def put(page: Path, growths: Sequence[Growth]) -> None:
    """Into the page, and the drawing beside it."""
    lines = {f"{growth.title} ({exponent(growth.sizes, growth.seconds):.2f})": (
        [size / growth.sizes[0] for size in growth.sizes],
        [second / growth.seconds[0] for second in growth.seconds]) for growth in growths}
    draw(page.parent / PICTURE, "times as large", "times as much", lines, both_logarithmic=True)
    put_between(page, BEGIN, END, "\n".join(report(growths)))


if __name__ == "__main__":
    run_main(main)
