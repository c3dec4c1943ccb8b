"""Plan a run without running it: who does what on how many ranks, how fast, in how much memory. Needs no GPU.

    vid2vid-plan street/2048 --ranks 8                                      a recipe, as it places its work
    vid2vid-plan my_street.yaml --ranks 8 --lanes 4 --placement auto        the best placement, and why
    vid2vid-plan my_street.yaml --ranks 64 --gpu-memory 80 --out plan.svg   does it fit? and a picture

Task times are modelled for an H100, or read from a JSON file {"ROLE/KIND/SCALE": seconds} (--costs)."""

import argparse
from pathlib import Path

from vid2vid_dist.cli.arguments import positive, size
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.clips import ClipSource
from vid2vid_dist.data.geometry import MIDDLE, Size
from vid2vid_dist.data.store import is_remote
from vid2vid_dist.data.tasks.registry import check_task, task_of
from vid2vid_dist.engine.plan.costs import count_costs
from vid2vid_dist.engine.plan.search import PlanRequest, choose
from vid2vid_dist.engine.plan.text import plan_text
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.monitor import gantt, plan_report
from vid2vid_dist.monitor.serial_schedule import serial_seconds
from vid2vid_dist.monitor.trace import read_costs
from vid2vid_dist.training.curriculum import LONGEST_CLIP, n_epochs, phase


def main() -> None:
    args = _arguments()
    cfg = load_config(args.config, args.overrides)
    check_task(cfg)
    last = phase(cfg, n_epochs(cfg), LONGEST_CLIP)
    request = PlanRequest(
        n_ranks=args.ranks, n_lanes=args.lanes or cfg.parallel.n_lanes(args.ranks),
        n_frames=args.frames or last.chunk_frames, placement=args.placement or cfg.parallel.placement,
        n_pipelines=args.pipelines or cfg.parallel.pipelines, in_flight=args.in_flight,
        n_frames_bp=last.n_frames_bp, memory=args.gpu_memory * plan_report.GB)
    width, height = args.size or _frame_size(cfg)
    specs = role_specs(cfg)
    costs = read_costs(count_costs(specs, height, width), args.costs)
    choice = choose(specs, costs, request)
    n_generator = min(cfg.schedule.n_generator_slots, max(1, args.ranks - 1))
    serial = serial_seconds(cfg, costs, request.n_lanes, request.n_frames, n_generator,
                            max(1, args.ranks - n_generator))
    batch_size = cfg.parallel.batch_size
    print(f"{width}x{height}, {plan_report.report(choice, request, serial, batch_size)}")
    print("times are modelled for H100 GPUs" + (", but for the tasks in --costs" if args.costs else ", not measured"))
    if args.text:
        print(f"\n{plan_text(choice.plan)}")
    if args.out:
        args.out.write_text(gantt.draw(choice.prediction.timeline, choice.plan.layout.n_slots,
                                       {spec.name: spec.colour for spec in specs.all},
                                       plan_report.headline(choice), plan_report.timing(
                                           choice, serial, request.n_lanes * batch_size * request.n_frames)))


def _frame_size(cfg: Config) -> Size:
    """Width and height of what the networks see, of the first video or, before there are shards, as the recipe says."""
    if (cfg.parallel.source_size and not is_remote(cfg.data.shards)
            and not (Path(cfg.data.shards) / "train/index.json").is_file()):
        width, height = cfg.parallel.source_size
        print(f"no shards at {cfg.data.shards} yet: planned for videos of {width}x{height} (parallel.source_size)")
        return typical_size((width, height), cfg.data)
    source = ClipSource.of(cfg)
    return source.whole(0).geometry.size


def typical_size(size: Size, data: DataConfig) -> Size:
    """Width and height of what the networks see of frames of `size`, without data to look at; of a frame of which a
    task takes a part, the square that fits."""
    task = task_of(data)
    if task.box is not None:
        size = min(size), min(size)
    return task.geometry(size, data, MIDDLE, False, None).size


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("config", type=Path, help="configuration file or recipe")
    add("overrides", nargs="*", metavar="key=value", help="settings on top of it")
    add("--ranks", type=positive, required=True, metavar="N", help="GPUs in all")
    add("--lanes", type=positive, metavar="M", help="lanes of a step, all ranks together\n"
                                                 "(default: parallel.clips_per_step / parallel.batch_size)")
    add("--placement", metavar="P", help="auto, split, split:6+2, colocated, data_parallel or generator=0-3,others=4-7 "
                                         "(default: parallel.placement)")
    add("--pipelines", type=positive, default=0, metavar="N", help="replicas (default: parallel.pipelines)")
    add("--in-flight", type=positive, default=0, metavar="L", help="lanes at a time (default: all that fit)")
    add("--frames", type=positive, metavar="T", help="chunk length (default: the last epoch's)")
    add("--size", type=size, metavar="WxH", help="frame size (default: what data.* makes of the first video,\n"
                                                   "without shards of parallel.source_size)")
    add("--gpu-memory", type=float, default=0, metavar="GB", help="memory of a rank")
    add("--costs", type=Path, metavar="FILE", help="measured task times")
    add("--text", action="store_true", help="print every rank's program, a line per operation")
    add("--out", type=Path, metavar="FILE.svg", help="draw the plan")
    return parser.parse_intermixed_args()
