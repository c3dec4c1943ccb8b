"""Options that say what to generate, of `vid2vid-generate` and `vid2vid-evaluate`."""

import argparse
from pathlib import Path

from vid2vid_dist.cli.arguments import count, positive
from vid2vid_dist.inference.edits import Pairs
from vid2vid_dist.inference.generate import GenerationOptions


def add_choice(parser: argparse.ArgumentParser) -> None:
    """The model, and the frames that it reads."""
    parser.add_argument("run", type=Path, help="run folder, for its newest checkpoint, or checkpoint folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings on top of the run's")
    parser.add_argument("--raw-weights", action="store_true", help="the trained weights, not their average")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: below the run)")
    what = parser.add_argument_group("what to generate from")
    what.add_argument("--input", type=Path, metavar="PATH",
                      help="shards, a folder of frames, or an mp4 for models that read RGB\n"
                           "(default: the shards that were trained on)")
    what.add_argument("--split", default="test", help="part of the shards (default: test)")
    what.add_argument("--videos", default="", metavar="NAME,…", help="only these videos (default: all)")
    what.add_argument("--start-frame", type=count, default=0, metavar="N", help="of each video")
    what.add_argument("--frames", "--how-many", dest="how_many", type=count, default=0, metavar="N",
                      help="so many first frames of each video (default: to its end)")
    what.add_argument("--first", default="auto", metavar="real|none|single:RUN|image:FILE",
                      help="start from real frames, from nothing, from frames of a single-image generator (a run of\n"
                           "configs/single_image, or a file of weights), or from a picture (default: as in training)")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """How the frames are computed."""
    how = parser.add_argument_group("how")
    how.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    how.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto",
                     help="auto = as in training on a GPU, fp32 on a CPU")
    how.add_argument("--compile", action="store_true", help="torch.compile: made for GPUs, slower on CPUs")


def add_output(parser: argparse.ArgumentParser) -> None:
    """What generation alone knows: edits, looks, batches, videos on the disk."""
    edit = parser.add_argument_group("edits of the labels; the page shows the original beside them")
    edit.add_argument("--remap", type=pairs, default=(), metavar="OLD=NEW,…", help="label ids that become others")
    edit.add_argument("--relabel-instance", type=pairs, default=(), metavar="ID=LABEL,…",
                      help="instances that get another label")
    style = parser.add_argument_group("looks, of a model with styles; several stand side by side")
    style.add_argument("--style", type=_numbers, default=(), metavar="K,…",
                       help="numbers of the looks that fit-styles has found (default: 0)")
    style.add_argument("--style-image", type=Path, metavar="FILE", help="the look of a picture")
    style.add_argument("--style-labels", type=Path, metavar="FILE", help="its label map")
    output = parser.add_argument_group("output")
    output.add_argument("--fps", type=int, choices=range(1, 121), default=15, metavar="N",
                        help="frame rate of the videos (default: 15)")
    output.add_argument("--batch", type=positive, default=1, metavar="N", help="videos side by side (default: 1)")
    output.add_argument("--writers", type=count, metavar="N",
                        help="processes that write results, 0 = a thread (default: on a GPU the cores left, at most 8)")
    output.add_argument("--again", action="store_true", help="remake videos that are already complete")


def options_of(args: argparse.Namespace) -> GenerationOptions:
    """What `add_choice` and `add_engine` have read."""
    return GenerationOptions(
        input=args.input, split=args.split, videos=tuple(args.videos.split(",")) if args.videos else (),
        start_frame=args.start_frame, how_many=args.how_many, first=args.first, device=args.device,
        precision=args.precision, compiled=args.compile)


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(map(count, text.split(",")))
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError("a number is given twice")
    return numbers


def pairs(text: str) -> Pairs:
    """`21=11` or `21=11,22=8`."""
    found = []
    for part in text.split(","):
        old, _, new = part.partition("=")
        if not (old.isdecimal() and new.isdecimal()):
            raise argparse.ArgumentTypeError(f"{part!r}: write OLD=NEW, two whole numbers")
        found.append((int(old), int(new)))
    if len(dict(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text}: an id is given twice")
    return tuple(found)
