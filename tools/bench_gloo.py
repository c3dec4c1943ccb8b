"""Is the network model true of gloo? Latency and bandwidth fitted on 2 to 4 ranks, then checked on 8.

    python -m tools.bench_gloo                   print the tables; about a minute on idle cores
    python -m tools.bench_gloo docs/scaling.md   put them there

Real ranks under torchrun on this machine: messages go round them one after another, reductions take all at once. The
formulas are those of `Machine`, by which plans are made. Sizes that are checked are not those that were fitted. Where
ranks outnumber cores, and other work shares these, a reduction's time depends on that; the processor time of all ranks
does not, and over the cores it is what an idle machine would take at least.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tools.one_node import torchrun
from tools.recipe_table import put_between
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.engine.plan.costs import Machine
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.transport import Transport

BEGIN, END = "<!-- gloo: make bench-gloo DOC=docs/scaling.md -->", "<!-- /gloo -->"
MESSAGES, REDUCTIONS, WORK = "messages", "reductions", "reductions, processor time over cores"
N_CORES = os.cpu_count() or 1
FITTED_RANKS, CHECKED_RANKS = (2, 3, 4), 8
FITTED = (2**16, 2**20, 2**22, 2**24)  # bytes
CHECKED = (2**18, 2**21, 2**23, 3 * 2**22)
ROUNDS = 21
WANTED = 0.05  # error


@dataclass(frozen=True)
class Sample:
    """A measured message or reduction: median seconds."""

    kind: str
    n_ranks: int
    n_bytes: int
    seconds: float


@dataclass(frozen=True)
class Fit:
    """Of messages or of reductions: seconds of a hop, and bytes/s."""

    kind: str
    latency: float
    bandwidth: float

    def seconds(self, n_ranks: int, n_bytes: int) -> float:
        return modelled(self.kind, n_ranks, n_bytes, self.latency, self.bandwidth)


def modelled(kind: str, n_ranks: int, n_bytes: float, latency: float, bandwidth: float) -> float:
    """By `Machine`, all ranks in one node. In a reduction all of them work at once: they share the cores, and each has
    its part of what the machine can do."""
    shared = 1 if kind == MESSAGES else n_ranks / min(n_ranks, N_CORES)
    machine = Machine(latency_in_node=latency * shared, link_in_node=bandwidth / shared, ranks_per_node=n_ranks)
    return machine.message(n_bytes, 0, 1) if kind == MESSAGES else machine.all_reduce(n_bytes, n_ranks)


def fit(kind: str, samples: list[Sample]) -> Fit:
    """Least squares of the relative errors."""
    rows = [[modelled(kind, s.n_ranks, 0, 1.0, 1.0) / s.seconds,
             modelled(kind, s.n_ranks, s.n_bytes, 0.0, 1.0) / s.seconds] for s in samples if s.kind == kind]
    (latency, per_byte), *_ = np.linalg.lstsq(np.array(rows), np.ones(len(rows)), rcond=None)
    return Fit(kind, float(latency), 1 / float(per_byte))


def worker(out: Path, sizes: list[int]) -> None:
    grid = open_grid("cpu")
    grid = grid.in_pipelines(grid.world_size)
    torch.set_num_threads(1)
    transport = Transport(grid)
    found = []
    for n_bytes in sizes:
        values = torch.ones(n_bytes // 4)
        wall, _ = measured(grid, partial(go_round, transport, values))
        found.append(Sample(MESSAGES, grid.world_size, n_bytes, wall / grid.world_size))
        wall, work = measured(grid, partial(sum_up, grid, values))
        found += [Sample(REDUCTIONS, grid.world_size, n_bytes, wall), Sample(WORK, grid.world_size, n_bytes, work)]
    if grid.is_first:
        out.write_text(json.dumps([vars(sample) for sample in found]))
    grid.close()


def go_round(transport: Transport, values: torch.Tensor) -> None:
    """From the first rank to the next, and on, back to the first."""
    me, n = transport.grid.rank, transport.grid.world_size

    def take() -> torch.Tensor:
        (taken,) = transport.receive((me - 1) % n, [(tuple(values.shape), values.dtype)], "the message").wait()
        return taken

    if me:
        values = take()
    transport.send((me + 1) % n, [values], "the message").wait()
    if not me:
        take()


def sum_up(grid: Grid, values: torch.Tensor) -> None:
    """Of ones, so that no round overflows."""
    grid.sum(values.fill_(1))


def measured(grid: Grid, call: Callable[[], object]) -> tuple[float, float]:
    """Medians over calls, after two that are not counted: seconds on the rank that takes longest, and processor seconds
    of all ranks over the cores."""
    seconds = []
    for _ in range(ROUNDS + 2):
        grid.barrier()
        started, worked = time.perf_counter(), time.process_time()
        call()
        of_ranks = grid.gather((time.perf_counter() - started, time.process_time() - worked))
        walls, works = zip(*of_ranks, strict=True)
        seconds.append((max(walls), sum(works) / N_CORES))
    walls, works = zip(*seconds[2:], strict=True)
    return statistics.median(walls), statistics.median(works)


def on_ranks(n_ranks: int, sizes: tuple[int, ...]) -> list[Sample]:
    """Run the worker under torchrun."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        subprocess.run([*torchrun(n_ranks), "-m", "tools.bench_gloo", "--worker", str(out), *map(str, sizes)],
                       check=True)
        return [Sample(**sample) for sample in json.loads(out.read_text())]


def report(samples: list[Sample], checked: list[Sample]) -> Iterator[str]:
    """What was fitted, and how far it is from what 8 ranks took."""
    yield (f"On {N_CORES} cores at a load of {os.getloadavg()[0]:.0f}, medians of {ROUNDS}. Fitted on "
           f"{FITTED_RANKS[0]} to {FITTED_RANKS[-1]} ranks and {FITTED[0] >> 10} KiB to {FITTED[-1] >> 20} MiB, "
           f"checked on {CHECKED_RANKS}.\n")
    yield from ("| gloo | Latency, µs | GB/s | MiB, checked | Modelled, ms | Measured, ms | Error |", "|---" * 7 + "|")
    good = []
    for kind in (MESSAGES, REDUCTIONS, WORK):
        found = fit(kind, samples)
        for s in (s for s in checked if s.kind == kind):
            model = found.seconds(s.n_ranks, s.n_bytes)
            error = model / s.seconds - 1
            if abs(error) <= WANTED:
                good.append(f"{kind} of {s.n_bytes / 2**20:g} MiB")
            yield (f"| {kind} | {1e6 * found.latency:.0f} | {found.bandwidth / 1e9:.2f} | {s.n_bytes / 2**20:g} | "
                   f"{1e3 * model:.2f} | {1e3 * s.seconds:.2f} | {error:+.0%} |")
    yield f"\nWithin {WANTED:.0%}: {', '.join(good) or 'nothing'}; {len(good)} of {len(checked)}."


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        worker(Path(sys.argv[2]), [int(size) for size in sys.argv[3:]])
        return
    samples = [sample for n_ranks in FITTED_RANKS for sample in on_ranks(n_ranks, FITTED)]
    text = "\n".join(report(samples, on_ranks(CHECKED_RANKS, CHECKED)))
    print(text)
    if len(sys.argv) > 1:
        put_between(Path(sys.argv[1]), BEGIN, END, text)


if __name__ == "__main__":
    run_main(main)
