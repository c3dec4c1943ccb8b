"""Generate videos with a trained run.

    python launch/generate.py runs/NAME                                  the test videos of the run's shards
    python launch/generate.py runs/NAME --videos seq0001 --how-many 30   the start of one of them
    python launch/generate.py runs/NAME --shards DIR --first none        other labels, no real frame needed

Makes PNG frames, mp4 videos and a page under RUN/results, and prints where the page is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout, installed or not

from launch._cli import run_main
from vid2vid_dist.inference.generate import Wish, generate
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.monitor.logs import setup_logging


def main() -> None:
    args = _arguments()
    setup_logging(rank=0)
    overrides = [*args.overrides, *([f"data.shards={args.shards}"] if args.shards else [])]
    loaded = load_generator(args.run, overrides, raw_weights=args.raw_weights)
    wish = Wish(args.split, tuple(filter(None, args.videos.split(","))), args.start_frame, args.how_many,
                args.first, args.fps, args.device)
    out = args.out or loaded.run_dir / "results" / f"{args.split}_{loaded.checkpoint.name}"
    outcome = generate(loaded, wish, out)
    per_frame = outcome.seconds / outcome.frames
    print(f"{outcome.frames} frames: {1 / per_frame:.3g} frames/s, {per_frame:.3g} s/frame, "
          f"{outcome.peak_memory:.2f} GiB at most")
    print(f"page: {outcome.page.absolute().as_uri()}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, for its newest checkpoint, or checkpoint folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings on top of the run's")
    parser.add_argument("--shards", metavar="DIR", help="shard folder instead of the one trained on")
    parser.add_argument("--split", default="test", help="part of the shards (default: test)")
    parser.add_argument("--videos", default="", metavar="NAME,…", help="only these videos (default: all)")
    parser.add_argument("--start-frame", type=_count, default=0, metavar="N", help="of each video")
    parser.add_argument("--how-many", type=_count, default=0, metavar="N",
                        help="frames per video (default: to its end)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/results/SPLIT_step_N")
    parser.add_argument("--first", choices=("auto", "real", "none"), default="auto",
                        help="start from real frames or from nothing (auto = as in training)")
    parser.add_argument("--fps", type=int, choices=range(1, 121), default=15, metavar="N",
                        help="frame rate of the videos (default: 15)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--raw-weights", action="store_true", help="the trained weights, not their average")
    return parser.parse_intermixed_args()


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


if __name__ == "__main__":
    run_main(main)
