"""Many small jobs of the same number of ranks in one torchrun job: most of a small job is its start."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.torchrun import torchrun
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.engine.run.grid import Grid

SECONDS = 850  # for one torchrun job, on cores that others use, too
LARGEST = 24  # jobs in one: process groups are never given back
patient = pytest.mark.timeout(SECONDS + 50)
"""For tests that may wait for all jobs of a batch."""


class Job(NamedTuple):
    """One job of a worker: on so many ranks, with these arguments."""

    ranks: int
    arguments: tuple[str, ...]


class Batches:
    """Results of a worker's jobs. `wanted`: those that are asked for later; they run together when the first is."""

    def __init__(self, worker: str, wanted: Iterable[Job], folder: Path) -> None:
        self._worker, self._folder = worker, folder
        self._files = {job: folder / f"{number}.pt" for number, job in enumerate(dict.fromkeys(wanted))}
        self._said: dict[Job, str] = {}

    def __call__(self, job: Job) -> dict[str, Tensor]:
        """What rank 0 of the job has found."""
        if job not in self._said:
            alike = [other for other in self._files if other.ranks == job.ranks]
            first = alike.index(job) // LARGEST * LARGEST
            together = alike[first:first + LARGEST]
            plan = self._files[job].with_suffix(".json")
            plan.write_text(json.dumps([[str(self._files[one]), *one.arguments] for one in together]))
            result = torchrun(job.ranks, self._worker, str(plan), timeout=SECONDS)
            self._said |= dict.fromkeys(together, result.stdout)
        assert self._files[job].is_file(), self._said[job]
        return torch.load(self._files[job], weights_only=True)


def work(run: Callable[[Grid, list[str]], dict[str, Tensor]]) -> None:
    """The main function of a worker: runs every job of the list that it is given."""
    grid = open_grid("cpu")
    for out, *arguments in json.loads(Path(sys.argv[1]).read_text()):
        if grid.is_first:
            print("job:", *arguments, flush=True)
        found = run(grid, arguments)
        if grid.is_first:
            torch.save(found, out)
    grid.close()
