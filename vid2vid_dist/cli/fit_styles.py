"""Find the looks of a model that was trained with styles, for `vid2vid-generate RUN --style K`.

    python -m vid2vid_dist fit-styles runs/NAME --styles 10      writes runs/NAME/styles.safetensors

What the encoder sees of every class in the training videos is clustered. Looks belong to the weights of one
checkpoint: fit them when training is done.
"""

import argparse
from pathlib import Path

from safetensors import SafetensorError

from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.runtime import choose_device
from vid2vid_dist.inference.style_fitting import fit_styles
from vid2vid_dist.inference.styles import FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, for its newest checkpoint, checkpoint folder, or export")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings on top of the run's")
    parser.add_argument("--styles", type=int, default=10, metavar="K", help="looks to find (default: 10)")
    parser.add_argument("--frames", type=int, default=1000, metavar="N", help="frames to look at (default: 1000)")
    parser.add_argument("--raw-weights", action="store_true", help="the trained weights, not their average")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_intermixed_args()
    if not (1 <= args.styles <= 1000 and args.frames >= 1):
        raise UserError(f"--styles {args.styles} must lie in 1..1000, --frames {args.frames} be at least 1")
    loaded = load_generator(args.run, args.overrides, raw_weights=args.raw_weights)
    book, n_frames = fit_styles(loaded, args.styles, args.frames, choose_device(args.device))
    path = loaded.run_dir / FILE
    try:
        book.save(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {path} ({error}): free some space, or check its permissions") from None
    print(f"{path}: {len(book.vectors)} looks from {n_frames} frames, for the weights of {loaded.checkpoint.name}")
