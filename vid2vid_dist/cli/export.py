"""Write the generator of a run as safetensors and a configuration, to pass on or to keep.

    vid2vid-export runs/NAME out/NAME            the averaged weights if the run has some
    vid2vid-generate out/NAME --input DIR        videos from it: the bare package is enough
    vid2vid-export runs/NAME out/NAME --onnx --size 512x256    and the step of one frame as a program for ONNX Runtime
"""

import argparse
from pathlib import Path

from vid2vid_dist.cli.arguments import size
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.export import export
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.one_frame import StepOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, for its newest checkpoint, or checkpoint folder")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--raw-weights", action="store_true", help="the trained weights, not their average")
    parser.add_argument("--onnx", action="store_true", help="the step of one frame for ONNX Runtime, too")
    parser.add_argument("--torch-export", action="store_true", help="the same for torch.export.load")
    parser.add_argument("--size", type=size, metavar="WxH", help="frames of these programs")
    args = parser.parse_args()
    loaded = load_generator(args.run, raw_weights=args.raw_weights)
    steps = None
    if args.onnx or args.torch_export:
        if args.size is None:
            raise UserError("--onnx and --torch-export make programs for frames of one size: give --size WxH")
        steps = StepOptions(args.size, args.onnx, args.torch_export)
    exported = export(loaded, args.out, steps)
    kind = "averaged" if loaded.averaged else "trained"
    print(f"{exported.folder}: {kind} weights of {loaded.checkpoint.name}, {exported.parameters / 1e6:.2f} M "
          f"parameters, {exported.n_bytes / 1e6:.1f} MB")
    if exported.rounded:
        print("the checkpoint holds these weights in bfloat16: they are stored as float32, but not more exact")
