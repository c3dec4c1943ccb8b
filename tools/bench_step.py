"""Measure a training step at 512, 1024 and 2048 on this device: time, use of it by role, memory against the plan.

    python -m tools.bench_step [key=value …] [--sizes 512 2048] [--frames T] [--json FILE]

The street recipes' networks on one rank, one clip. On a GPU at full width; on a CPU with fewer channels (--width), as
the table says. Frames come from data.shards, by default the toy street brought to the size. Each size runs in a
process of its own; times are medians. Memory is that of all tensors at the fullest moment, as torch's allocators count
it: networks, optimiser state, data and activations, but not what libraries keep beside them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from tools.lanes import clip_of
from tools.operations import Operations
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.data.decoding import Decoders
from vid2vid_dist.engine.plan.costs import CPU_CORE, Costs, count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.memory import plan_memory
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.schedule import in_order
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.tasks import LaneChunk, StepShape
from vid2vid_dist.engine.roles.build import build_frozen, build_modules, build_roles, role_specs
from vid2vid_dist.engine.run.executor import Executor
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.engine.run.timing import Span
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.network_input import FrameLoader
from vid2vid_dist.toy.street import ensure_toy_shards
from vid2vid_dist.training.curriculum import phase

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SIZES = (512, 1024, 2048)
# Weights that are not shipped; they can be named again on the command line.
FREE = ["loss.no_vgg=true", "loss.vgg_weights=", "flow.network=dis", "flow.weights=", "optim.backend=plain",
        "optim.ema_decay=0"]
N_WARM_UP = 2  # steps: from the second one on the optimisers have their state


def measure_size(cfg: Config, n_frames: int, n_steps: int) -> dict[str, Any]:
    """The figures of one size; see `table` for their meaning."""
    grid = open_grid(cfg.run.device).in_pipelines(1)
    on_gpu = grid.device.type == "cuda"
    source = ClipSource.of(cfg)
    clip = source.clip(1, 0, n_frames, n_frames)
    width, height = clip.geometry.size
    n = n_frames + cfg.generator.n_frames_G - 1
    given = cfg.generator.n_frames_G - 1
    flows = [(i, 1) for i in range(given, n)] if cfg.flow.network == "dis" else []
    request = Request(clip, range(n), range(n), flows)
    loader = FrameLoader(source)
    started = time.perf_counter()
    frames = loader.load(request)
    decode = n / (time.perf_counter() - started)

    specs, chunk = role_specs(cfg), LaneChunk(0, n_frames)
    costs = count_costs(specs, height, width, None if on_gpu else CPU_CORE)
    shape = StepShape((chunk,))
    plan = in_order(step_tasks(specs, shape, whole_chunks=True), colocated(specs, 1), costs)
    (planned,) = plan_memory(specs, plan, shape, simulate(plan).timeline)
    coming = Decoders(loader, cfg.data.workers, source.task.in_python).stream([request] * (N_WARM_UP + n_steps))
    steps, waits, spans = [], [], []

    with Memory(grid) as memory:
        roles = build_roles(specs, grid.holders(plan.layout.slots), build_modules(specs), build_frozen(specs),
                            phase(cfg, 1, n).rates)
        executor = Executor(roles, specs.shapes(), 0, Transport(grid), DTYPES[cfg.optim.precision], specs.buckets)
        executor.timer.on_device = on_gpu

        def step(frames: Frames) -> None:
            executor.step(plan, shape, [LanePart(clip_of(cfg, [frames], grid.device), n_frames, 1.0)],
                          specs.active(chunk))

        for frames in itertools.islice(coming, N_WARM_UP):
            step(frames)
    executor.timer.take()
    for _ in range(n_steps):
        started = time.perf_counter()
        frames = next(coming)
        waits.append(time.perf_counter() - started)
        step(frames)
        spans += executor.timer.take()
        steps.append(time.perf_counter() - started)
    with Operations(executor.timer) as operations:
        step(frames)
    return {
        "size": f"{width}x{height}", "device": device_name(grid.device), "precision": cfg.optim.precision,
        "ngf": cfg.generator.ngf, "ndf": cfg.discriminator.ndf, "frames": n_frames,
        "seconds_per_step": statistics.median(steps), "frames_per_second": n_frames / statistics.median(steps),
        "loader_wait": sum(waits) / sum(steps),
        "decoded_frames_per_second_and_core": decode, "memory_gb": memory.peak / 1e9,
        "planned_gb": (planned.total - planned.by_cause["context"]) / 1e9,
        "roles": of_roles(spans, costs, n_steps), "tasks": of_tasks(spans),
        "operations": sum(operations.of_span.values()),
        "operations_of_tasks": operations.by_kind(executor.timer.take()),
    }


def of_tasks(spans: list[Span]) -> dict[str, float]:
    """Median seconds of a unit of each kind of task, as `vid2vid-plan --costs` reads them."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for span in spans:
        if span.key is not None:
            seconds[str(span.key)].append(span.seconds / span.units)
    return {kind: statistics.median(found) for kind, found in sorted(seconds.items())}


def of_roles(spans: list[Span], costs: Costs, n_steps: int) -> dict[str, dict[str, float]]:
    """Seconds of a step by role, and how much of the device's arithmetic they use: FLOP/s."""
    seconds: dict[str, float] = defaultdict(float)
    flops: dict[str, float] = defaultdict(float)
    for span in spans:
        if span.key in costs.work:
            role = span.key.role
            flops[role] += costs.work[span.key].flops * span.units
        else:
            role = str(span.key.kind) if span.key else "wait"
        seconds[role] += span.seconds
    return {role: {"seconds": spent / n_steps, "flops": flops[role] / max(spent, 1e-9)}
            for role, spent in seconds.items()}


class Memory:
    """The tensors of this device that are made inside the `with`: `peak`, their bytes at the fullest moment."""

    peak = 0

    def __init__(self, grid: Grid) -> None:
        self._recorder: Any = None
        if grid.device.type == "cpu":  # whose allocator keeps no high-water mark
            self._recorder = profile(activities=[ProfilerActivity.CPU], profile_memory=True)

    def __enter__(self) -> Memory:
        if self._recorder is not None:
            self._recorder.start()
        else:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        return self

    def __exit__(self, *_: object) -> None:
        if self._recorder is None:
            self.peak = torch.cuda.max_memory_allocated() - self._before
            return
        self._recorder.stop()
        events = [event for event in self._recorder.profiler.kineto_results.events() if event.name() == "[memory]"]
        changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
        self.peak = max(itertools.accumulate(changes))


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """One line per size, and one per role."""
    for row in found:
        yield (f"{row['size']}, {row['device']}, {row['precision']}, ngf {row['ngf']}, ndf {row['ndf']}, "
               f"{row['frames']} frame(s): {row['seconds_per_step']:.2f} s/step, {row['frames_per_second']:.2f} "
               f"frames/s; waiting for data {row['loader_wait']:.1%}, decoding "
               f"{row['decoded_frames_per_second_and_core']:.1f} frames/s on a core; memory {row['memory_gb']:.2f} GB, "
               f"planned {row['planned_gb']:.2f} GB ({row['memory_gb'] / row['planned_gb'] - 1:+.0%})")
        for role, of_role in row["roles"].items():
            yield f"    {role:12} {of_role['seconds']:8.3f} s/step {of_role['flops'] / 1e9:10.1f} GFLOP/s"


def configured(size: int, width: int, overrides: list[str]) -> Config:
    """A street recipe on one rank; `width` replaces ngf, half of it ndf, or with 0 they stay."""
    narrow = [f"generator.ngf={width}", f"discriminator.ndf={width // 2}"] if width else []
    shards = f"data.shards={DataConfig().shards}"
    return load_config(CONFIGS / f"street/{size}.yaml", [shards, *FREE, *narrow, *overrides])


def provide_shards(overrides: list[str]) -> None:
    """Make the toy street unless other shards are asked for."""
    if not any(override.startswith("data.shards=") for override in overrides):
        ensure_toy_shards(Path(DataConfig().shards))


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="key=value")
    add("--sizes", type=int, nargs="+", choices=SIZES, default=SIZES)
    add("--width", type=int, default=0 if torch.cuda.is_available() else 16, help="ngf; 0 = the recipe's")
    add("--frames", type=int, default=1, help="generated frames of the step (1)")
    add("--steps", type=int, default=3, help="that are measured (3)")
    add("--json", type=Path, metavar="FILE", help="write the figures")
    add("--alone", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args()
    if args.alone:
        cfg = configured(args.sizes[0], args.width, args.overrides)
        args.alone.write_text(json.dumps(measure_size(cfg, args.frames, args.steps)))
        return
    provide_shards(args.overrides)
    found = []
    for size in args.sizes:
        with tempfile.NamedTemporaryFile() as out:
            mine = ["--sizes", str(size), "--width", str(args.width), "--frames", str(args.frames), "--steps",
                    str(args.steps), "--alone", out.name]
            subprocess.run([sys.executable, "-m", "tools.bench_step", *mine, *args.overrides], check=True)
            found.append(json.loads(Path(out.name).read_text()))
        print(*table(found[-1:]), sep="\n", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "sizes": found}, indent=1))


if __name__ == "__main__":
    run_main(main)
