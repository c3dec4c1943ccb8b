"""Under torchrun: train recipes one after another, shrunken, each from the run that it names as its start.

    shrunken_recipes.py SHARDS ROOT RECIPE.yaml …
"""

import sys
from pathlib import Path

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.training.trainer import Trainer

SMALLER = 8  # frames are this many times narrower than the recipe's


def shrunken(recipe: str, shards: str, root: str) -> Config:
    """Two epochs with a switch of the curriculum between them; what makes a recipe itself stays."""
    cfg = load_config(recipe, ["loss.no_vgg=true", "loss.vgg_weights=", "flow.network=dis", "flow.weights="])
    cfg.data.shards, cfg.run.root, cfg.run.device = shards, root, "cpu"
    if cfg.data.task == "pose":  # of whose width the middle half is used, a multiple of 64
        cfg.data.loadSize, cfg.data.fineSize = 80, 64
    else:
        cfg.data.loadSize //= SMALLER
        cfg.data.fineSize //= SMALLER
    cfg.data.workers = 0
    gen, disc, schedule = cfg.generator, cfg.discriminator, cfg.schedule
    gen.ngf, gen.n_blocks, gen.n_blocks_local, disc.ndf = 8, 2, 1, 4
    schedule.niter = schedule.niter_decay = schedule.niter_step = 1
    schedule.niter_fix_global = min(1, schedule.niter_fix_global)
    schedule.n_frames_total = 4
    schedule.n_generator_slots = min(2, schedule.n_generator_slots)
    schedule.max_frames_per_rank = min(2 // schedule.n_generator_slots, schedule.max_frames_per_rank)
    cfg.parallel.clips_per_step = min(2, cfg.parallel.clips_per_step)
    if cfg.run.load_pretrain:
        cfg.run.load_pretrain = str(Path(root) / Path(cfg.run.load_pretrain).name)
    cfg.run.save_every_steps = 0
    cfg.monitor.pictures_every, cfg.monitor.log_every = 0, 1
    return cfg


def main() -> None:
    shards, root, *recipes = sys.argv[1:]
    grid = open_grid("cpu")
    for recipe in recipes:
        Trainer(shrunken(recipe, shards, root), grid).run()
    grid.close()


if __name__ == "__main__":
    run_main(main)
