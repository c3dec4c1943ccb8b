"""Pack raw folders into shards.

vid2vid-shards [--task face | faces | pose | styles]  # a toy set, rendered if missing; bare: the street
vid2vid-shards datasets/Cityscapes data/shards/cityscapes --size 1024 --label-nc 35
vid2vid-shards --verify data/shards/cityscapes                              # are they still what was packed?
vid2vid-shards datasets/face data/shards/face --task face                   # landmarks or poses
"""

import argparse
import os
import re
from pathlib import Path

from vid2vid_dist.cli.arguments import count
from vid2vid_dist.cli.toy import TOYS
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.store import MAKE_SHARDS
from vid2vid_dist.data.tasks.registry import TASKS
from vid2vid_dist.data.verify import verify_shards
from vid2vid_dist.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, help="folder with train_A/, train_B/, ... (none = a toy set)")
    parser.add_argument("out", nargs="?", type=Path, help="shard folder to write, with train/ and test/ inside")
    parser.add_argument("--size", type=int,
                        help="resize frames to this width in pixels (default: keep the files' bytes)")
    parser.add_argument("--label-nc", type=count, default=0, help="refuse label ids from this one on (0 = no check)")
    parser.add_argument("--task", choices=tuple(dict.fromkeys([*TASKS, *TOYS])), default=DataConfig.task,
                        help="what the folders hold: labels, landmarks or poses; styles, faces = toy sets in several "
                             "looks")
    parser.add_argument("--split-at-jumps", action="store_true",
                        help="begin a new video where the numbers of a folder's frames jump")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)),
                        help="processes (default: one for each core)")
    parser.add_argument("--part", type=_part, metavar="i/n",
                        help="pack only part i of n, as on node i of n; without it, what is left, and the index")
    parser.add_argument("--verify", action="store_true",
                        help="pack nothing: compare what lies in OUT with its index, and mark what is damaged")
    parser.add_argument("--force", action="store_true", help="pack again even if the shards are up to date")
    args = parser.parse_args()
    if args.size is not None and not 32 <= args.size <= 16384:
        raise UserError(f"--size {args.size} is out of range 32..16384")
    if not 1 <= args.workers <= 1024:
        raise UserError(f"--workers {args.workers} is out of range 1..1024")
    toy = TOYS.get(args.task)
    if args.verify:
        print("\n".join(verify_shards(args.out or args.source or (toy or TOYS["street"]).shards, args.workers)))
        return
    if args.source is None:
        if toy is None:
            raise UserError(f"--task {args.task} has no toy set: {MAKE_SHARDS}")
        print(toy.render(toy.raw, toy.options), flush=True)
        args.source, args.out = toy.raw, args.out or toy.shards
    if args.out is None:
        raise UserError(f"the folder to write is missing: {MAKE_SHARDS}")
    options = PackOptions(args.size, args.label_nc, toy.task if toy else args.task, args.split_at_jumps)
    for line in make_shards(args.source, args.out, options, args.force, args.workers, args.part):
        print(line)


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch("([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part i/n with i from 1 to n, as in 2/8")
    return int(found[1]), int(found[2])
