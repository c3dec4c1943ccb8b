"""Under torchrun: train, with rank 1 unable to write its part of the checkpoint of a step.

    file_too_large.py STEP key=value …

The kernel refuses every file of that rank beyond a kilobyte while it saves.
"""

import resource
import sys
from pathlib import Path

from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.models.manifest import Entries
from vid2vid_dist.monitor.logs import setup_logging
from vid2vid_dist.training import checkpoint
from vid2vid_dist.training.checkpoint import Files
from vid2vid_dist.training.trainer import Trainer

if __name__ == "__main__":
    limited, *overrides = sys.argv[1:]
    grid, write_files = open_grid("cpu"), checkpoint.write_files
    setup_logging(grid.rank)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write(folder: Path, files: Files) -> Entries:
        if folder.name != f".step_{int(limited):08d}" or grid.rank != 1:
            return write_files(folder, files)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            return write_files(folder, files)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    checkpoint.write_files = write
    Trainer(load_config(None, overrides), grid).run()
