"""Under torchrun: resume a run on these ranks, write down what was loaded, and go on to its last step.

    move.py key=value …
"""

import json
import sys
from dataclasses import asdict

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.training.checkpoint import Position, write_files
from vid2vid_dist.training.trainer import Trainer


def main() -> None:
    grid = open_grid("cpu")
    trainer = Trainer(load_config(None, sys.argv[1:]), grid)
    position = trainer.state.position
    trainer.state.position = Position(position.step)  # clips in flight are taken up by the next step only
    loaded = trainer.run_dir / "loaded"
    loaded.mkdir(exist_ok=True)
    write_files(loaded, trainer.state.snapshot()[0])
    trainer.state.position = position
    plan = trainer._plan(position.epoch, trainer.state.phase(position.epoch))
    if grid.is_first:  # the clips of the step that comes, their frames, crops and mirrorings, by lane
        lanes = [[asdict(clip) for clip in lane] for lane in plan.rounds[position.round].lanes]
        (trainer.run_dir / "clips.json").write_text(json.dumps(lanes))
    trainer.run()
    grid.close()


if __name__ == "__main__":
    run_main(main)
