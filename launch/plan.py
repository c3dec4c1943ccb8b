"""Plan a run without running it: who does what on how many ranks, how fast, in how much memory. Needs no GPU.

    python launch/plan.py my_street.yaml --ranks 8                                   the best placement, and why
    python launch/plan.py my_street.yaml --ranks 8 --lanes 4 --placement split:6+2   yours
    python launch/plan.py my_street.yaml --ranks 64 --gpu-memory 80 --out plan.svg   does it fit? and a picture

Task times are modelled for an H100, or read from --costs: {"KIND/SCALE": seconds} as a run records them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the checkout, installed or not

from launch._cli import run_main
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.geometry import MIDDLE, clip_geometry
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.engine.costs import count_costs, load_measured
from vid2vid_dist.engine.search import Wish, choose
from vid2vid_dist.engine.simulate import serial_seconds
from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor import gantt, plan_report
from vid2vid_dist.training.curriculum import LONGEST_CLIP, n_epochs, phase


def main() -> None:
    args = _arguments()
    cfg = load_config(args.config, args.overrides)
    last = phase(cfg, n_epochs(cfg), LONGEST_CLIP)
    wish = Wish(args.ranks, args.lanes or cfg.parallel.lanes * args.ranks, args.frames or last.chunk_frames,
                args.placement, args.pipelines, args.in_flight, last.n_frames_bp, args.gpu_memory * 1e9)
    if args.size:
        width, height = args.size
    else:
        source = ShardIndex(Path(cfg.data.shards) / "train").videos[0].size
        width, height = clip_geometry(source, cfg.data, MIDDLE).size
    costs = count_costs(cfg, height, width)
    if args.costs:
        costs = load_measured(costs, args.costs)
    choice = choose(cfg, costs, wish)
    n_generator = min(cfg.schedule.n_generator_slots, max(1, args.ranks - 1))
    serial = serial_seconds(cfg, costs, wish.n_clips, wish.n_frames, n_generator, max(1, args.ranks - n_generator))
    print(f"{width}x{height}, {wish.n_frames} frames per chunk, {wish.n_clips} clips per step, {args.ranks} ranks")
    print(f"{plan_report.headline(choice)}" + (f" ({choice.reason})" if choice.reason else ""))
    print(f"\n{plan_report.grid(choice)}\n\n{plan_report.rank_table(choice)}\n")
    print(plan_report.timing(choice, serial, wish.n_frames))
    print(plan_report.verdict(choice, wish))
    if args.out:
        title, told = plan_report.headline(choice), plan_report.timing(choice, serial, wish.n_frames)
        args.out.write_text(gantt.draw(choice.prediction.timeline, choice.plan.layout.n_slots, title, told))
        print(f"picture: {args.out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config", type=Path, help="configuration file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings on top of it")
    parser.add_argument("--ranks", type=int, required=True, metavar="N", help="GPUs in all")
    parser.add_argument("--lanes", type=int, default=0, metavar="M",
                        help="clips per step over all ranks (default: parallel.lanes x ranks)")
    parser.add_argument("--placement", default="auto", metavar="P",
                        help="auto, split, split:6+2, colocated, data_parallel or generator=0-3,others=4-7")
    parser.add_argument("--pipelines", type=int, default=0, metavar="P", help="replicas (default: the best number)")
    parser.add_argument("--in-flight", type=int, default=0, metavar="L", help="lanes at a time (default: all)")
    parser.add_argument("--frames", type=int, default=0, metavar="T", help="chunk length (default: the last epoch's)")
    parser.add_argument("--size", type=_size, metavar="WxH", help="frame size (default: of the shards)")
    parser.add_argument("--gpu-memory", type=float, default=0, metavar="GB", help="per rank")
    parser.add_argument("--costs", type=Path, metavar="FILE", help="measured task times")
    parser.add_argument("--out", type=Path, metavar="FILE.svg", help="draw the plan")
    return parser.parse_intermixed_args()


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise UserError(f"--size {text}: write it like 1024x512")
    return int(width), int(height)


if __name__ == "__main__":
    run_main(main)
