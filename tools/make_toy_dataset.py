"""Render the toy street as raw folders {train,test}_{A,B,inst,flow}.

python -m tools.make_toy_dataset                      # the default set, data/toy_street
python -m tools.make_toy_dataset /tmp/street --width 512 --height 256 --n-train 20
"""

from __future__ import annotations

import argparse
from pathlib import Path

from launch._cli import run_main
from vid2vid_dist.data.toy_street import TOY_RAW, ToyOptions, render_toy_street
from vid2vid_dist.errors import UserError


def main() -> None:
    default = ToyOptions()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "out", nargs="?", type=Path, default=TOY_RAW, help=f"folder to write (default {TOY_RAW})"
    )
    parser.add_argument("--n-train", type=int, default=default.n_train, help="training videos")
    parser.add_argument("--n-test", type=int, default=default.n_test, help="test videos")
    parser.add_argument("--n-frames", type=int, default=default.n_frames, help="frames per video")
    parser.add_argument("--width", type=int, default=default.width, help="pixels")
    parser.add_argument("--height", type=int, default=default.height, help="pixels")
    parser.add_argument("--seed", type=int, default=default.seed, help="other seeds are other streets")
    args = vars(parser.parse_args())
    out = args.pop("out")
    if min(value for key, value in args.items() if key != "seed") < 1 or args["seed"] < 0:
        raise UserError("counts and sizes must be at least 1, the seed at least 0")
    print(render_toy_street(out, ToyOptions(**args)))


if __name__ == "__main__":
    run_main(main)
