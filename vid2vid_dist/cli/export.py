"""Write the generator of a run as safetensors and a configuration, to pass on or to keep.

    vid2vid-export runs/NAME out/NAME            the averaged weights if the run has some
    vid2vid-generate out/NAME --input DIR        videos from it: the bare package is enough
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vid2vid_dist.inference.export import export
from vid2vid_dist.inference.load import load_generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, for its newest checkpoint, or checkpoint folder")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--raw-weights", action="store_true", help="the trained weights, not their average")
    args = parser.parse_args()
    loaded = load_generator(args.run, raw_weights=args.raw_weights)
    exported = export(loaded, args.out)
    kind = "averaged" if loaded.averaged else "trained"
    print(f"{exported.folder}: {kind} weights of {loaded.checkpoint.name}, {exported.parameters / 1e6:.2f} M "
          f"parameters, {exported.n_bytes / 1e6:.1f} MB")
    if exported.rounded:
        print("the checkpoint holds these weights in bfloat16: they are stored as float32, but not more exact")
