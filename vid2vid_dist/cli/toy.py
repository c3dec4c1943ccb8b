"""Render a toy set as raw folders: a street, the street in several looks, a talking head, a dancer with poses.

python -m vid2vid_dist toy                      # the default street, data/toy_street
python -m vid2vid_dist toy --task face /tmp/faces --n-train 20
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from vid2vid_dist.errors import UserError
from vid2vid_dist.toy.face import (
    FACE_OPTIONS,
    FACES_OPTIONS,
    TOY_FACE_RAW,
    TOY_FACE_SHARDS,
    TOY_FACES_RAW,
    TOY_FACES_SHARDS,
    render_toy_face,
    render_toy_faces,
)
from vid2vid_dist.toy.pose import POSE_OPTIONS, TOY_POSE_RAW, TOY_POSE_SHARDS, render_toy_pose
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import (
    STYLES_OPTIONS,
    TOY_RAW,
    TOY_SHARDS,
    TOY_STYLES_RAW,
    TOY_STYLES_SHARDS,
    render_toy_street,
    render_toy_styles,
)


@dataclass(frozen=True)
class Toy:
    """A toy set: its name, what kind of data it is, where it lies, raw and packed, its sizes, and who renders it."""

    name: str
    task: str
    raw: Path
    shards: Path
    options: ToyOptions
    render: Callable[[Path, ToyOptions], str]


TOYS = {toy.name: toy for toy in (
    Toy("street", "street", TOY_RAW, TOY_SHARDS, ToyOptions(), render_toy_street),
    Toy("face", "face", TOY_FACE_RAW, TOY_FACE_SHARDS, FACE_OPTIONS, render_toy_face),
    Toy("pose", "pose", TOY_POSE_RAW, TOY_POSE_SHARDS, POSE_OPTIONS, render_toy_pose),
    Toy("faces", "face", TOY_FACES_RAW, TOY_FACES_SHARDS, FACES_OPTIONS, render_toy_faces),
    Toy("styles", "street", TOY_STYLES_RAW, TOY_STYLES_SHARDS, STYLES_OPTIONS, render_toy_styles),
)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, help="folder to write (default data/toy_TASK)")
    parser.add_argument("--task", choices=tuple(TOYS), default="street", help="what to render (default street)")
    parser.add_argument("--n-train", type=int, help="training videos")
    parser.add_argument("--n-test", type=int, help="test videos")
    parser.add_argument("--n-frames", type=int, help="frames per video")
    parser.add_argument("--width", type=int, help="pixels")
    parser.add_argument("--height", type=int, help="pixels")
    parser.add_argument("--seed", type=int, help="other seeds are other videos")
    given = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    toy, out = TOYS[given.pop("task")], given.pop("out", None)
    if any(value < (0 if key == "seed" else 1) for key, value in given.items()):
        raise UserError("counts and sizes must be at least 1, the seed at least 0: see --help")
    print(toy.render(out or toy.raw, ToyOptions(**{**asdict(toy.options), **given})))
