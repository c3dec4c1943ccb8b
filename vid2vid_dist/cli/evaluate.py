"""Judge a trained run by figures, or compare two.

    vid2vid-evaluate runs/NAME                                  L1, PSNR, SSIM where real frames are known; warp
                                                                error; drift over the frames
    vid2vid-evaluate runs/NAME --fid-weights FILE …             FID and KID as well (`python -m vid2vid_dist
                                                                weights` fetches the files)
    vid2vid-evaluate runs/NAME --against runs/OTHER             both: one table, and videos side by side

Every video is made to its end from its own frames, or as far as --frames says. Writes evaluation.json, TensorBoard
events and a page with curves over the frames under RUN/evaluation, and prints the table: it says over how many frames
of which size each figure is taken.
"""

import argparse
from pathlib import Path

from vid2vid_dist.cli.generate_options import add_choice, add_engine, options_of
from vid2vid_dist.inference.evaluate import evaluate
from vid2vid_dist.inference.figures import lines
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.quality import Judges, WeightFiles
from vid2vid_dist.inference.segmentation import CITYSCAPES, NETWORKS
from vid2vid_dist.monitor.logs import setup_logging


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_choice(parser)
    parser.add_argument("--against", type=Path, metavar="RUN", help="another run, which makes the same frames")
    add_engine(parser)
    weights = parser.add_argument_group("weights of the networks that judge; without a file its figures are left out")
    weights.add_argument("--lpips-weights", default="", metavar="FILE", help="torchvision's AlexNet: LPIPS")
    weights.add_argument("--fid-weights", default="", metavar="FILE", help="torch-fidelity's InceptionV3: FID, KID")
    weights.add_argument("--fvd-weights", default="", metavar="FILE", help="I3D as TorchScript: FVD")
    weights.add_argument("--segmentation-weights", default="", metavar="FILE", help="mIoU, pixel accuracy")
    weights.add_argument("--segmentation-network", choices=NETWORKS, default=NETWORKS[0], metavar="NAME",
                         help=f"that the file is of: torchvision's\n({', '.join(NETWORKS)})")
    weights.add_argument("--segmentation-ids", type=_label_ids, default=(), metavar="ID,…|cityscapes",
                         help="label id of each class of the network; other labels are left out\n"
                              "(default: class and id are one; cityscapes: its 19 classes)")
    args = parser.parse_intermixed_args()
    setup_logging(rank=0)
    files = WeightFiles(args.lpips_weights, args.fid_weights, args.fvd_weights, args.segmentation_weights,
                        args.segmentation_network, args.segmentation_ids)
    runs = [load_generator(args.run, args.overrides, raw_weights=args.raw_weights)]
    out = args.out or runs[0].run_dir / "evaluation" / f"{args.split}_{runs[0].checkpoint.name}"
    if args.against:
        runs.append(load_generator(args.against, args.overrides, raw_weights=args.raw_weights))
        out = args.out or out.with_name(f"{out.name}_against_{runs[1].run_dir.name}")
    for line in lines(evaluate(runs, options_of(args), Judges.load(files, runs[0].config.data.label_nc), out)):
        print(line)
    print(f"page: {(out / 'index.html').absolute().as_uri()}")


def _label_ids(text: str) -> tuple[int, ...]:
    if text == "cityscapes":
        return CITYSCAPES
    try:
        ids = tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no list of label ids") from None
    if len({*ids}) < len(ids) or not all(0 <= label < 256 for label in ids):
        raise argparse.ArgumentTypeError("label ids are different numbers from 0 to 255, in the order of the classes")
    return ids
