"""Under torchrun: train the run `whole` in one go, and the run `parts` with a stop after each number of steps.

    stop_and_go.py STOP,STOP,…,END key=value …
"""

import sys

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.training.trainer import Trainer


def main() -> None:
    stops, *overrides = sys.argv[1:]
    *_, end = stops.split(",")
    grid = open_grid("cpu")
    for name, stop in [("whole", end), *(("parts", stop) for stop in stops.split(","))]:
        Trainer(load_config(None, [*overrides, f"run.name={name}", f"run.max_steps={stop}"]), grid).run()
    grid.close()


if __name__ == "__main__":
    run_main(main)
