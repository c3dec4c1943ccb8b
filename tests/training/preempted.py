"""Under torchrun: train the run `whole` in one go, and the run `parts` with a request in the middle of several starts.

    preempted.py END key=value …

Every request reaches one rank only. Prints the outcome of every start.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.training import preemption
from vid2vid_dist.training.trainer import Trainer


def main() -> None:
    end, *overrides = sys.argv[1:]
    grid = open_grid("cpu")
    preemption.LOOK_EVERY = 0.0  # steps are short here

    def start(name: str, *more: str, at: int = 0, rank: int = 0, ask: Callable[[Path], object] | None = None) -> None:
        cfg = load_config(None, [*overrides, f"run.name={name}", f"run.max_steps={end}", *more])
        trainer = Trainer(cfg, grid)
        after_step = trainer.reporter.after_step

        def then(step: int, *others: object) -> bool:
            if ask is not None and (step, grid.rank) == (at, rank):
                ask(trainer.run_dir)
            return after_step(step, *others)

        trainer.reporter.after_step = then
        trainer.run()
        if grid.is_first:
            print((trainer.run_dir / "status.json").read_text().replace("\n", ""), flush=True)

    start("whole")
    start("parts", at=1, rank=1, ask=lambda _: os.kill(os.getpid(), signal.SIGUSR2))
    start("parts", at=3, rank=0, ask=lambda run: (run / "preempt").touch())
    start("parts", "run.time_limit=0.0001")
    start("parts", at=6, rank=1, ask=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    start("parts", at=8, rank=0, ask=lambda run: (run / "stop").touch())
    start("parts")
    grid.close()


if __name__ == "__main__":
    run_main(main)
