"""Measure the engine: do real ranks keep the time that the simulator promises, and what does the plan gain?

    python -m tools.bench_engine [--trace FILE.json] [--json FILE.json]

Promise: 8 ranks with the real programs, messages and threads, but tasks, reductions and updates that sleep for
their planned cost (512x256, one H100 per rank), slowed down so that a step takes seconds. Gain: 2 ranks with one
thread each and real networks, the plan against the original's order of work on the same ranks, in turn. Medians
of five steps.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tools.bench_plan import RECIPES, known_costs
from tools.lanes import clip_of
from tools.one_node import torchrun
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.costs import CPU_CORE, count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import split
from vid2vid_dist.engine.plan.schedule import Plan, Run, Transfer, make_plan
from vid2vid_dist.engine.plan.search import PlanRequest, best_plan, choose
from vid2vid_dist.engine.plan.simulate import planned_runs, simulate
from vid2vid_dist.engine.plan.tasks import FAR, CostKey, Kind, LaneChunk, StepShape, Task, steady_shape
from vid2vid_dist.engine.plan.tensors import FrameSize, Part
from vid2vid_dist.engine.roles.build import build_frozen, build_modules, build_roles, role_specs
from vid2vid_dist.engine.run.clip import ClipInFlight
from vid2vid_dist.engine.run.executor import Executor, Role
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.tensor_store import LanePart, TaskTensors, TensorStore
from vid2vid_dist.engine.run.timing import Span
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.engine.run.updates import MayUpdate, Verdict
from vid2vid_dist.monitor.trace import TracedStep, write_trace
from vid2vid_dist.training.curriculum import phase

WARM_UP = 1
N_LANES = 4
REAL = ["data.use_instance=true", "generator.ngf=16", "generator.n_blocks=3", "generator.n_downsample_G=2",
        "generator.fg=true", "discriminator.ndf=16", "discriminator.frames_per_pass=1", "loss.no_vgg=true",
        "optim.backend=plain", "data.loadSize=128"]


class Sleeper:
    """A role that does any task by sleeping, and makes empty tensors for those who read it."""

    def __init__(self, plan: Plan, slower: float, engine: Any) -> None:
        self.engine, self._plan, self._slower = engine, plan, slower
        self._parts: dict[int, set[Part]] = defaultdict(set)
        for task in plan.tasks:
            for need in task.needs:
                self._parts[need.task].update(need.parts)
            self._parts[task.number].update(part for part, _ in task.to_next_step)

    def run(self, task: Task, step: TensorStore) -> TaskTensors:
        time.sleep(self._slower * self._plan.durations[task.number])
        return {part: step.zeros(task, part.kind) for part in self._parts[task.number]}


class SleepingEngine:
    """Meets the other holders of its role, then sleeps for the planned cost. `reduce_seconds`: by bucket."""

    def __init__(self, grid: Grid, reduce_seconds: list[float], update_seconds: float) -> None:
        self.module, self.gradient_norm, self.n_buckets = nn.Module(), torch.zeros(()), len(reduce_seconds)
        self._grid, self._reduce, self._update = grid, reduce_seconds, update_seconds

    def begin(self) -> None:
        pass

    def reduce(self, bucket: int) -> None:
        self._grid.sum(torch.zeros(1))
        time.sleep(self._reduce[bucket])

    def step(self, refused: Tensor | None = None) -> None:
        time.sleep(self._update)


def keep_promise(grid: Grid, placement: str, n_steps: int, step_seconds: float) -> dict[str, float]:
    """Periods of real steps of sleeping tasks, and the simulated one, in seconds."""
    specs, costs = known_costs(512)
    request = PlanRequest(grid.world_size, N_LANES, RECIPES[512].n_frames, placement, n_pipelines=1)
    choice = choose(specs, costs, request)
    plan = choice.plan
    predicted = simulate(plan, n_steps=20).period
    slower = step_seconds / predicted
    grid = grid.in_pipelines(plan.layout.n_slots)
    seconds = {task.cost_key: slower * duration for task, duration in zip(plan.tasks, plan.durations, strict=True)}
    asleep = {role: SleepingEngine(holders, [seconds[CostKey(role, Kind.REDUCE, bucket=number)]
                                             for number in range(specs[role].n_buckets)], seconds[update])
              for role, holders in grid.holders(plan.layout.slots).items()
              if (update := CostKey(role, Kind.UPDATE)) in seconds}
    roles: dict[str, Role] = {spec.name: Sleeper(plan, slower, asleep.get(spec.name)) for spec in specs.all}
    executor = Executor(roles, specs.shapes(), grid.rank_in_pipeline, Transport(grid), torch.float32, plan.reductions)
    shape = steady_shape(N_LANES, RECIPES[512].n_frames)
    # Nothing of a clip is kept but what messages carry: every step is the same one.
    parts = [LanePart(ClipInFlight(1, FrameSize(1, 16, 16), n_seen=FAR), RECIPES[512].n_frames, 1 / N_LANES)
             for _ in range(N_LANES)]
    measured = periods(grid, n_steps, lambda: executor.step(plan, shape, parts, specs.trained, may_update=asks(grid)))
    return {"measured": measured, "simulated": step_seconds, "ratio": measured / step_seconds}


def asks(grid: Grid) -> MayUpdate:
    """Ranks agree before they update, as in training."""
    return lambda values: Verdict(
        agreed=lambda: all(grid.gather(all(bool(value.isfinite().all()) for value in values.values()))))


def periods(grid: Grid, n_steps: int, step: Callable[[], object]) -> float:
    """Median seconds from the end of a step to the end of the next, on the rank that is last."""
    grid.barrier()
    ends = []
    for _ in range(WARM_UP + n_steps):
        step()
        ends.append(time.perf_counter())  # of one host: all ranks read the same clock
    last = [max(of_step) for of_step in zip(*grid.gather(ends), strict=True)]
    return statistics.median(b - a for a, b in zip(last[WARM_UP - 1:], last[WARM_UP:], strict=False))


class SerialExecutor(Executor):
    """One task at a time on all ranks together, in the original's order: lane after lane, frames, critics, gradients.

    A token goes round: a task begins when the one before it has ended, wherever that was.
    """

    def __init__(self, base: Executor, grid: Grid) -> None:
        super().__init__(base.roles, base.shapes, base.slot, base.transport, base.dtype, base.reductions)
        self._ranks = grid.ranks[grid.pipeline].tolist()
        self._slots: dict[int, tuple[int, int]] = {}

    def set_order(self, plan: Plan) -> Plan:
        """The plan with its tasks in that order."""
        runs = sorted((item for item in plan.sequence if isinstance(item, Run) and item.task.site is not None),
                      key=lambda run: (run.task.lane, run.task.number))
        slots = [run.slot for run in runs]
        for index, run in enumerate(runs):
            before, after = slots[max(0, index - 1)], slots[min(index + 1, len(runs) - 1)]
            self._slots[run.task.number] = before, after
        messages: dict[int, list[Transfer]] = defaultdict(list)
        for item in plan.sequence:
            if isinstance(item, Transfer):
                messages[item.producer].append(item)
        sequence: list[Run | Transfer] = []
        for run in runs:
            sequence += [run, *messages[run.task.number]]
        return replace(plan, sequence=sequence)

    def _run(self, task: Task, store: TensorStore) -> None:
        before, after = self._slots[task.number]
        if before != self.slot:
            dist.recv(torch.zeros(1), self._ranks[before], tag=1)
        super()._run(task, store)
        if after != self.slot:
            dist.send(torch.zeros(1), self._ranks[after], tag=1)


def gain(grid: Grid, n_steps: int, trace: str) -> dict[str, float]:
    """Seconds of a step of real networks on two ranks, planned and in the original's order."""
    cfg = load_config(None, REAL)
    specs, (width, height, n_frames) = role_specs(cfg), (128, 64, 6)
    layout = split(specs, 1, 1)
    grid = grid.in_pipelines(2)
    costs = replace(count_costs(specs, height, width), machine=CPU_CORE)
    roles = build_roles(specs, grid.holders(layout.slots), build_modules(specs), build_frozen(specs),
                        phase(cfg, 1, 30).rates)
    shape = StepShape((LaneChunk(0, n_frames),) * N_LANES)
    planned = best_plan(specs, shape, layout, costs)
    executor = Executor(roles, specs.shapes(), grid.rank_in_pipeline, Transport(grid), torch.float32, specs.buckets)
    active = specs.active(shape.lanes[0])

    serial = SerialExecutor(executor, grid)
    in_order = serial.set_order(make_plan(step_tasks(specs, shape), layout, costs))

    def parts() -> list[LanePart | None]:
        return [clip(cfg, n, n_frames, height, width) for n in range(N_LANES)]

    def step() -> None:
        executor.step(planned, shape, parts(), active, may_update=asks(grid))

    def serial_step() -> None:
        serial.step(in_order, shape, parts(), active, may_update=asks(grid))

    found = {"serial": periods(grid, n_steps, serial_step), "planned": periods(grid, n_steps, step)}
    if trace:
        record(grid, executor, planned, step, Path(trace))
    return found | {"ratio": found["serial"] / found["planned"]}


def record(grid: Grid, executor: Executor, plan: Plan, step: Callable[[], object], path: Path) -> None:
    """Write one more step beside its plan."""
    executor.timer.take()
    grid.barrier()
    zero = time.perf_counter()
    step()
    spans = [Span(s.name, s.key, s.start - zero, s.end - zero, s.units) for s in executor.timer.take()]
    steps = grid.gather(TracedStep(grid.rank, 1, 0.0, spans, planned_runs(plan, grid.rank_in_pipeline)))
    if grid.is_first:
        write_trace(path, steps)


def clip(cfg: Config, number: int, n_frames: int, height: int, width: int) -> LanePart:
    """A lane with random frames."""
    rng = torch.Generator().manual_seed(number)
    n = cfg.generator.n_frames_G - 1 + n_frames

    def noise(channels: int, high: int) -> torch.Tensor:
        return torch.randint(high, (n, channels, height, width), generator=rng, dtype=torch.uint8)

    frames = Frames(noise(1, cfg.data.label_nc), noise(3, 256), noise(1, 30).int(), [str(i) for i in range(n)])
    return LanePart(clip_of(cfg, [frames], torch.device("cpu")), n_frames, 1 / N_LANES)


def worker(task: str, out: str, trace: str, n_steps: int, step_seconds: float) -> None:
    grid = open_grid("cpu")
    torch.set_num_threads(1)
    found = gain(grid, n_steps, trace) if task == "gain" else keep_promise(grid, task, n_steps, step_seconds)
    if grid.is_first:
        Path(out).write_text(json.dumps(found))
    grid.close()


def job(n_ranks: int, task: str, trace: str, n_steps: int, step_seconds: float) -> dict[str, float]:
    """Run a worker under torchrun."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        arguments = [task, str(out), trace, str(n_steps), str(step_seconds)]
        subprocess.run([*torchrun(n_ranks), "-m", "tools.bench_engine", "--worker", *arguments], check=True)
        return json.loads(out.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--ranks", type=int, default=8, help="that sleep (8)")
    add("--seconds", type=float, default=6.0, help="that a step of theirs shall take (6)")
    add("--steps", type=int, default=5, help="that are measured (5)")
    add("--trace", default="", metavar="FILE.json", help="record a planned step of real networks")
    add("--json", type=Path, metavar="FILE", help="write the figures")
    add("--worker", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        task, out, trace, n_steps, step_seconds = args.worker
        worker(task, out, trace, int(n_steps), float(step_seconds))
        return
    found = {}
    for placement in ("split", "colocated"):
        found[placement] = kept = job(args.ranks, placement, "", args.steps, args.seconds)
        print(f"{placement:10} {args.ranks} ranks, {N_LANES} lanes: step {kept['measured']:.3f} s, simulated "
              f"{kept['simulated']:.3f} s, ratio {kept['ratio']:.3f}", flush=True)
    found["gain"] = real = job(2, "gain", args.trace, args.steps, args.seconds)
    print(f"1G+1D      2 ranks, {N_LANES} lanes, real networks: planned {real['planned']:.3f} s, serial "
          f"{real['serial']:.3f} s, ratio {real['ratio']:.2f}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    run_main(main)
