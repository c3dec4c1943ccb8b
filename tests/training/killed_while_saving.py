"""Under torchrun: train, and kill rank 1 while it writes its part of the checkpoint of a step.

    killed_while_saving.py STEP key=value …
"""

import os
import signal
import sys
from pathlib import Path

from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.models.manifest import Entries
from vid2vid_dist.training import checkpoint
from vid2vid_dist.training.checkpoint import Files
from vid2vid_dist.training.trainer import Trainer

if __name__ == "__main__":
    fatal, *overrides = sys.argv[1:]
    grid, write_files = open_grid("cpu"), checkpoint.write_files

    def write_or_die(folder: Path, files: Files) -> Entries:
        if folder.name == f".step_{int(fatal):08d}" and grid.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return write_files(folder, files)

    checkpoint.write_files = write_or_die
    Trainer(load_config(None, overrides), grid).run()
