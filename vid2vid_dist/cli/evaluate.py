"""Judge a trained run by figures.

    vid2vid-evaluate runs/NAME                                  warp error, drift; PSNR and SSIM where real
                                                                         frames are known
    vid2vid-evaluate runs/NAME --fid-weights FILE …             FID as well (`python -m vid2vid_dist weights`
                                                                         fetches the files)

Every video is made to its end from its own frames. Writes evaluation.json, TensorBoard events and a page with curves
over the frames under RUN/evaluation, and prints the table.
"""

from __future__ import annotations

import argparse

from vid2vid_dist.cli.generate_options import add_choice, add_engine, options_of
from vid2vid_dist.inference.evaluate import evaluate, lines
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.quality import WeightFiles
from vid2vid_dist.monitor.logs import setup_logging


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_choice(parser)
    add_engine(parser)
    weights = parser.add_argument_group("weights of the networks that judge; without a file its figure is left out")
    weights.add_argument("--lpips-weights", default="", metavar="FILE", help="torchvision's AlexNet")
    weights.add_argument("--fid-weights", default="", metavar="FILE", help="torch-fidelity's InceptionV3")
    weights.add_argument("--video-fid-weights", default="", metavar="FILE", help="torchvision's r3d_18")
    args = parser.parse_intermixed_args()
    setup_logging(rank=0)
    files = WeightFiles(args.lpips_weights, args.fid_weights, args.video_fid_weights)
    loaded = load_generator(args.run, args.overrides, raw_weights=args.raw_weights)
    out = args.out or loaded.run_dir / "evaluation" / f"{args.split}_{loaded.checkpoint.name}"
    for line in lines(evaluate(loaded, options_of(args), files, out)):
        print(line)
    print(f"page: {(out / 'index.html').absolute().as_uri()}")
