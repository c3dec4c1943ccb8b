"""Generate videos with a trained run.

    vid2vid-generate runs/NAME                                  the test videos of the run's shards
    vid2vid-generate runs/NAME --videos seq0001 --how-many 30   the start of one of them
    vid2vid-generate runs/NAME --input DIR --first none         other labels, no real frame needed
    vid2vid-generate runs/NAME --remap 21=11                    trees become buildings, beside the original
    vid2vid-generate runs/NAME --style 0,1,2                    three looks of a model with styles
    torchrun --nproc_per_node 8 -m vid2vid_dist generate runs/NAME --batch 4
                                                                the videos dealt over 8 GPUs, 4 at a time

Makes PNG frames, mp4 videos and a page under RUN/results, and prints where the page is. The same command goes on
where it was interrupted: complete videos are kept.
"""

import argparse
import os
from dataclasses import replace
from datetime import timedelta

from vid2vid_dist.cli.generate_options import add_choice, add_engine, add_output, options_of
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.inference.edits import LabelEdit
from vid2vid_dist.inference.generate import generate
from vid2vid_dist.inference.load import find_checkpoint, load_generator
from vid2vid_dist.inference.styles import StyleOptions
from vid2vid_dist.monitor.logs import setup_logging

PATIENCE = timedelta(days=7)  # ranks meet once, at the end, and the longest video may take long


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_choice(parser)
    add_output(parser)
    add_engine(parser)
    args = parser.parse_intermixed_args()
    options = replace(options_of(args), edit=LabelEdit(args.remap, args.relabel_instance),
                      style=StyleOptions(args.style, args.style_image, args.style_labels), fps=args.fps,
                      batch=args.batch, again=args.again, writers=args.writers)
    grid = open_grid(options.device, PATIENCE) if "RANK" in os.environ else None
    setup_logging(rank=grid.rank if grid else 0)
    # A run that is being trained goes on to other checkpoints: one rank chooses for all.
    run = args.run if grid is None else grid.on_first(lambda: find_checkpoint(args.run))
    loaded = load_generator(run, args.overrides, raw_weights=args.raw_weights)
    out = args.out or loaded.run_dir / "results" / f"{args.split}_{loaded.checkpoint.name}"
    outcome = generate(loaded, options, out, grid)
    if grid is None or grid.is_first:
        if outcome.frames:
            per_frame = outcome.seconds / outcome.frames
            print(f"{outcome.frames} frames: {1 / per_frame:.3g} frames/s, {per_frame:.3g} s/frame, "
                  f"{outcome.peak_memory:.2f} GiB at most")
        if outcome.kept:
            print(f"{outcome.kept} videos were complete (--again remakes them)")
        print(f"page: {outcome.page.absolute().as_uri()}")
    if grid is not None:
        grid.close()
