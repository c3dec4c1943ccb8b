"""A rank of `tools.bench_scaling`: trains small configurations and says what that took.

    torchrun … -m tools.scaling_worker CASES.json FOUND.json
"""

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.training.trainer import Trainer

WARM_UP = 2  # steps: from the second one on the optimisers have their state
FEW = ["run.device=cpu", "generator.ngf=8", "generator.n_blocks=2", "discriminator.ndf=8", "data.workers=1",
       "monitor.pictures_every=0", "monitor.tensorboard=false", "monitor.log_every=1000", "run.save_every_steps=0",
       "run.save_every_minutes=0", "schedule.niter=1000", "schedule.niter_step=1000"]


@dataclass(frozen=True)
class Case:
    """A training: `size` is that of what grows, `title`."""

    title: str
    size: int
    overrides: Sequence[str]
    n_steps: int = 4


@dataclass(frozen=True)
class Found:
    """Processor seconds of all ranks: to get ready for the first step, and of a step. `began`: when, in seconds since
    the epoch, the last rank had done its first step; `memory`: bytes of all ranks, those that they share counted once.
    """

    title: str
    size: int
    ready: float
    step: float
    began: float
    memory: int


class Clocked(Trainer):
    """Notes when each step has ended: seconds since the epoch, and processor seconds of this rank."""

    def __init__(self, cfg: Config, grid: Grid) -> None:
        self.clock: dict[int, tuple[float, float]] = {}
        super().__init__(cfg, grid)

    def _ends(self) -> bool:
        self.clock.setdefault(self.state.position.step, (time.time(), time.process_time()))
        return super()._ends()


def train(grid: Grid, case: Case, root: Path) -> Found:
    cfg = load_config("configs/toy/cpu.yaml", [
        *FEW, f"run.root={root}", f"run.name={case.title.replace(' ', '_')}_{case.size}",
        f"run.max_steps={WARM_UP + case.n_steps}", *case.overrides])
    before = time.process_time()
    trainer = Clocked(cfg, grid)
    trainer.run()
    clock = trainer.clock
    mine = (clock[0][1] - before, (clock[WARM_UP + case.n_steps][1] - clock[WARM_UP][1]) / case.n_steps, clock[1][0],
            memory())
    ready, step, began, used = zip(*grid.gather(mine), strict=True)
    return Found(case.title, case.size, sum(ready), sum(step), max(began), sum(used))


def memory() -> int:
    """Bytes of this process, of pages that others have too its share."""
    said = Path("/proc/self/smaps_rollup").read_text()
    found = re.search(r"^Pss: +(\d+) kB", said, re.MULTILINE)
    assert found
    return 1024 * int(found[1])


def main() -> None:
    cases, out = (Path(word) for word in sys.argv[1:])
    grid = open_grid("cpu")
    torch.set_num_threads(1)
    found = [train(grid, Case(**case), out.parent / "runs") for case in json.loads(cases.read_text())]
    if grid.is_first:
        out.write_text(json.dumps([asdict(one) for one in found]))
    grid.close()


if __name__ == "__main__":
    main()
