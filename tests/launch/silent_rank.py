"""Under torchrun: launch/train.py with rank 2 stopped in its third step, where SILENT says.

task: in a discriminator's task. reduction: when its tasks are done, before the ranks decide on the updates. report:
when it has updated.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

from vid2vid_dist.cli import train
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.engine.roles.image import ImageRole
from vid2vid_dist.engine.run.updates import Updates
from vid2vid_dist.training.reporter import Reporter
from vid2vid_dist.training.trainer import Trainer

PLACES: dict[str, tuple[type, str]] = {
    "task": (ImageRole, "run"), "reduction": (Updates, "finish"), "report": (Reporter, "after_step")}


def stop_in(owner: type, name: str, is_time: Callable[[], bool]) -> None:
    """Have this process stopped when a method is called."""
    method = getattr(owner, name)

    def stopped(*arguments: Any) -> Any:
        if is_time():
            os.kill(os.getpid(), signal.SIGSTOP)
        return method(*arguments)

    setattr(owner, name, stopped)


def main() -> None:
    trainers: list[Trainer] = []
    run = Trainer.run

    def run_known(self: Trainer) -> None:
        trainers.append(self)
        run(self)

    Trainer.run = run_known  # type: ignore[method-assign]
    stop_in(*PLACES[os.environ["SILENT"]], lambda: trainers[0].watchdog.step == 3)
    train.main()


if __name__ == "__main__":
    run_main(main if os.environ["RANK"] == "2" else train.main)
