"""Render a toy set as raw folders: a street, the street in several looks, a talking head, a dancer with poses.

python -m vid2vid_dist toy                      # the default street, data/toy_street
python -m vid2vid_dist toy --task face /tmp/faces --n-train 20
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from vid2vid_dist.cli.arguments import count, positive
from vid2vid_dist.toy.face import TOY_FACE, TOY_FACES
from vid2vid_dist.toy.pose import TOY_POSE
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import TOY_STREET, TOY_STYLES

TOYS = {toy.name: toy for toy in (TOY_STREET, TOY_FACE, TOY_POSE, TOY_FACES, TOY_STYLES)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, help="folder to write (default data/toy_TASK)")
    parser.add_argument("--task", choices=tuple(TOYS), default="street", help="what to render (default street)")
    parser.add_argument("--n-train", type=positive, help="training videos")
    parser.add_argument("--n-test", type=positive, help="test videos")
    parser.add_argument("--n-frames", type=positive, help="frames per video")
    parser.add_argument("--width", type=positive, help="pixels")
    parser.add_argument("--height", type=positive, help="pixels")
    parser.add_argument("--seed", type=count, help="other seeds are other videos")
    given = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    toy, out = TOYS[given.pop("task")], given.pop("out", None)
    print(toy.render(out or toy.raw, ToyOptions(**{**asdict(toy.options), **given})))
