"""Under torchrun: train, and kill rank 1 while it writes its part of the checkpoint of a step.

    killed_while_saving.py STEP key=value …
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from vid2vid_dist.config.load import load_config
from vid2vid_dist.engine.grid import open_grid
from vid2vid_dist.training.state import TrainingState
from vid2vid_dist.training.trainer import Trainer

if __name__ == "__main__":
    fatal, *overrides = sys.argv[1:]
    write = TrainingState.write

    def write_or_die(self: TrainingState, folder: Path) -> None:
        if self.position.step == int(fatal) and self.grid.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, folder)

    TrainingState.write = write_or_die
    Trainer(load_config(None, overrides), open_grid("cpu")).run()
