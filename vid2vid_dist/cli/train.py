"""Train a video generator.

    torchrun --nproc_per_node 8 -m vid2vid_dist.train               the toy street set, settings for this machine:
                                                                    generator frames and critics on separate ranks
    torchrun --nproc_per_node 8 -m vid2vid_dist.train street/512    a recipe, or a file of your own: my_street.yaml
    vid2vid-train street/512 optim.lr=1e-4 run.name=try             one rank, two settings changed

A run continues from its newest checkpoint, on any number of ranks; `run.name` chooses the folder under runs/.
With --fresh a run that has a checkpoint is refused instead.
"""

import logging
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch

from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config, split_arguments
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.monitor.logs import setup_logging
from vid2vid_dist.toy.street import ensure_toy_shards
from vid2vid_dist.training.checkpoint import require_fresh
from vid2vid_dist.training.trainer import Trainer

log = logging.getLogger(__name__)


def main() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    file, overrides = split_arguments([argument for argument in sys.argv[1:] if argument != "--fresh"])
    if file is None:
        file = Path("toy/gpu" if torch.cuda.is_available() else "toy/cpu")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            overrides = ["parallel.placement=split", *overrides]
    cfg = load_config(file, overrides)
    grid = open_grid(cfg.run.device, timedelta(minutes=cfg.parallel.timeout))
    setup_logging(grid.rank)
    if cfg.data.shards == DataConfig().shards:
        for line in grid.on_first(lambda: ensure_toy_shards(Path(cfg.data.shards))):
            log.info("%s", line)
    if "--fresh" in sys.argv and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":  # a restart goes on
        grid.on_first(lambda: require_fresh(Path(cfg.run.root) / cfg.run.name))
    with grid.meeting(0, "getting ready"):
        trainer = Trainer(cfg, grid)
    trainer.run()
    grid.close()
