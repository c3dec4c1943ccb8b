"""Under torchrun: go on with several runs, one after another.

    go_on.py FILE.json, a list of runs, each a list of key=value
"""

import json
import sys
from pathlib import Path

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.training.trainer import Trainer


def main() -> None:
    grid = open_grid("cpu")
    for overrides in json.loads(Path(sys.argv[1]).read_text()):
        Trainer(load_config(None, overrides), grid).run()
    grid.close()


if __name__ == "__main__":
    run_main(main)
