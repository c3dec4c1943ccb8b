"""The first day on a GPU: what CPU ranks could not show, in one command of at most eight minutes.

    make gpu-check                                      on this machine's GPU, or in a small form on its CPU
    python -m tools.gpu_check [--out DIR] [--golden DIR] [--minutes N] [--small] [--only PART …] [key=value …]

Parts go on when another fails. Writes DIR/gpu_check.json, and DIR/costs_SIZE.json for `vid2vid-plan --costs`; exit
status 1 if a part failed.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.bench_generate import measure, some_frames, switches
from tools.bench_label_conv import compare as compare_label_conv
from tools.bench_step import SIZES, configured, device_name, provide_shards
from tools.lanes import clip_of
from tools.parity import trace
from tools.parity.case import Check
from tools.parity.discover import discover
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.schedule import in_order
from vid2vid_dist.engine.plan.tasks import LaneChunk, StepShape
from vid2vid_dist.engine.roles.build import build_frozen, build_modules, build_roles, role_specs
from vid2vid_dist.engine.run.executor import Executor
from vid2vid_dist.engine.run.grid import Grid, solo_grid
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.engine.run.updates import Verdict
from vid2vid_dist.models.compiling import compiler_problem
from vid2vid_dist.models.flow import dis_flow
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.training.curriculum import phase
from vid2vid_dist.version import versions

N_GOLDEN = 2  # the smallest traces
TOLERANCE = {"fp64": 1e-9, "fp32": 1e-3}  # of losses, CPU in fp64 against the device, relative
COMPILED = "optim.compile=tasks"
SETTINGS = ("CUDA_DEVICE_MAX_CONNECTIONS", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "NCCL_DEBUG",
            "TORCH_NCCL_TRACE_BUFFER_SIZE")


@dataclass(frozen=True)
class Options:
    """What is checked. `small`: sizes and steps for a CPU."""

    grid: Grid
    out: Path
    golden: Path
    small: bool
    overrides: list[str]

    @property
    def on_gpu(self) -> bool:
        return self.grid.device.type == "cuda"

    def toy(self, *overrides: str) -> Config:
        small = ["generator.ngf=4", "discriminator.ndf=4", "generator.n_blocks=2"] if self.small else []
        return load_config("configs/toy/cpu.yaml", [*small, "optim.ema_decay=0", *overrides])


@dataclass
class Found:
    """What came of a part. `ok`: None where it could not be checked here; `said`: why, or what is wrong."""

    part: str
    ok: bool | None = True
    figures: dict[str, Any] = field(default_factory=dict)
    said: str = ""
    seconds: float = 0.0


def device(options: Options) -> Found:
    """What this is."""
    found: dict[str, Any] = {"device": device_name(options.grid.device), "host": platform.platform(), **versions(),
                             **{name: os.environ.get(name, "") for name in SETTINGS}}
    if options.on_gpu:
        properties = torch.cuda.get_device_properties(options.grid.device)
        found |= {"memory GB": properties.total_memory / 1e9, "capability": f"{properties.major}.{properties.minor}",
                  "GPUs": torch.cuda.device_count(), "CUDA": torch.version.cuda,
                  "cuDNN": torch.backends.cudnn.version(), "NCCL": ".".join(map(str, torch.cuda.nccl.version()))}
    return Found("device", figures=found)


class Toy:
    """The toy street on one rank: the same weights and frames wherever it runs."""

    def __init__(self, cfg: Config, grid: Grid) -> None:
        specs, self._chunk = role_specs(cfg), LaneChunk(0, 1)
        self._shape = StepShape((self._chunk,))
        self._plan = in_order(step_tasks(specs, self._shape, whole_chunks=True), colocated(specs, 1))
        roles = build_roles(specs, grid.holders(self._plan.layout.slots), build_modules(specs), build_frozen(specs),
                            phase(cfg, 1, 8).rates)
        self._executor = Executor(roles, specs.shapes(), 0, Transport(grid), DTYPES[cfg.optim.precision], specs.buckets)
        self._cfg, self._specs, self._device = cfg, specs, grid.device
        frames = some_frames(cfg, (cfg.data.loadSize, cfg.data.loadSize // 2), with_foreground=True)
        draws = torch.Generator().manual_seed(1)
        shape = len(frames.labels), 3, *frames.labels.shape[-2:]
        images = torch.randint(256, shape, generator=draws, dtype=torch.uint8)
        self._frames = replace(frames, images=images, flows=dis_flow(images[-1], images[-2])[None])

    def step(self) -> dict[str, Tensor]:
        """Losses of a step, which are not read."""
        part = LanePart(clip_of(self._cfg, [self._frames], self._device), 1, 1.0)
        accepted = Verdict(torch.zeros((), device=self._device))
        return self._executor.step(self._plan, self._shape, [part], self._specs.active(self._chunk),
                                   may_update=lambda values: accepted).losses

    def close(self) -> None:
        for engine in self._executor.engines().values():
            engine.close()


def second_losses(options: Options, grid: Grid, precision: str, *overrides: str) -> dict[str, float]:
    toy = Toy(options.toy("optim.backend=plain", f"optim.precision={precision}", *overrides), grid)
    toy.step()
    return {name: float(value) for name, value in toy.step().items()}


def worst(expected: dict[str, float], found: dict[str, float]) -> float:
    return max(abs(found[name] - x) / max(abs(x), 1e-3) for name, x in expected.items())


def same_step(options: Options) -> Found:
    """Two steps on the CPU in fp64 against the device."""
    expected, figures = second_losses(options, solo_grid(), "fp64"), {}
    for precision in TOLERANCE:
        figures[precision] = worst(expected, second_losses(options, options.grid, precision))
    return Found("same step", all(figures[name] <= most for name, most in TOLERANCE.items()), figures)


def compiled(options: Options) -> Found:
    """Two steps with compiled networks likewise, and what a step takes with them and without."""
    problem = compiler_problem(options.grid.device)
    if not options.on_gpu:
        return Found("compiled", None,
                     said=problem or "programs can be compiled; those of the networks take minutes on a CPU")
    if problem:
        return Found("compiled", False, said=problem)
    expected = second_losses(options, solo_grid(), "fp64")
    figures = {"fp32": worst(expected, second_losses(options, options.grid, "fp32", COMPILED))}
    for name, overrides in (("seconds a step", []), ("compiled", [COMPILED])):
        toy = Toy(options.toy("optim.backend=plain", *overrides), options.grid)
        figures[name] = statistics.median(seconds(toy) for _ in range(10))
    return Found("compiled", figures["fp32"] <= TOLERANCE["fp32"], figures)


def seconds(toy: Toy) -> float:
    """Of a step, on a GPU."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    toy.step()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def golden(options: Options) -> Found:
    """Traces of the original, in fp64 on the device."""
    if not options.golden.is_dir():
        return Found("golden", None, said=f"no folder {options.golden}: name it with --golden")
    cases = [case for case in discover(options.golden, None) if case.kind == "trace"]
    cases.sort(key=lambda case: sum(x.numel() for x in case.tensors().values()))
    figures, wrong = {}, []
    for case in cases[: 1 if options.small else N_GOLDEN]:
        checks: list[Check] = trace.check(case, options.grid)
        worst = max(checks, key=lambda check: (not check.ok, check.error / max(check.tolerance, 1e-300)))
        figures[case.name] = worst.error
        wrong += [f"{case.name}: {check.what}" for check in checks if not check.ok]
    return Found("golden", not wrong and bool(figures), figures, "; ".join(wrong))


def host_waits(options: Options) -> Found:
    """A step in which the host may not wait for the GPU."""
    toy = Toy(options.toy("optim.backend=plain", "optim.precision=fp32"), options.grid)
    toy.step()
    if not options.on_gpu:
        return Found("host waits", None, said="no GPU to wait for; tests/logical_gpu counts")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        toy.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return Found("host waits")


def bf16(options: Options) -> Found:
    """The toy in bf16 against fp32, as ZeRO trains both."""
    n_steps, figures = 2 if options.small else 100, {}
    for precision in ("fp32", "bf16"):
        toy = Toy(options.toy("optim.backend=zero", f"optim.precision={precision}"), options.grid)
        losses = [torch.stack(list(toy.step().values())).sum().float() for _ in range(n_steps)]
        figures[precision] = float(torch.stack(losses[-max(1, n_steps // 10):]).mean())
        toy.close()
    return Found("bf16", abs(figures["bf16"] / figures["fp32"] - 1) < 0.2, figures)


def steps(options: Options) -> Found:
    """Time, memory against the plan, and what the device's arithmetic gives, by size."""
    out, figures = options.out / "steps.json", {}
    small = ["--sizes", "512", "--width", "8", "data.loadSize=64"] if options.small else []
    n_steps = "1" if options.small else "3"
    subprocess.run([sys.executable, "-m", "tools.bench_step", *small, "--steps", n_steps, "--json", str(out),
                    *options.overrides], check=True)
    for size, row in zip(SIZES, json.loads(out.read_text())["sizes"], strict=False):
        (options.out / f"costs_{size}.json").write_text(json.dumps(row["tasks"], indent=1))
        figures[row["size"]] = {name: row[name] for name in (
            "seconds_per_step", "loader_wait", "memory_gb", "planned_gb", "operations")} | {
                "TFLOP/s": sum(of["flops"] * of["seconds"] for of in row["roles"].values()) / 1e12
                / row["seconds_per_step"]}
    off = [size for size, row in figures.items() if abs(row["memory_gb"] / row["planned_gb"] - 1) > 0.1]
    return Found("steps", not (off and options.on_gpu), figures,
                 f"memory is more than 10 % off its plan at {', '.join(off)}" if off else "")


def generation(options: Options) -> Found:
    cfg = options.toy() if options.small else configured(1024, 0, options.overrides)
    size = cfg.data.loadSize, cfg.data.loadSize // 2
    rates = measure(switches(cfg, size, options.grid.device, False), options.grid.device, 1 if options.small else 3)
    return Found("generation", figures={f"{name}, frames/s": rate for name, rate in rates.items()})


def label_convolution(options: Options) -> Found:
    more = ["data.loadSize=64", "generator.ngf=8"] if options.small else []
    sizes = SIZES[:1] if options.small else SIZES
    return Found("label convolution", figures={
        str(size): compare_label_conv(configured(size, 0, [*more, *options.overrides])) for size in sizes})


def ranks(options: Options) -> Found:
    """The toy, placed on several GPUs with NCCL, against one rank: the losses of the first steps."""
    n_ranks = torch.cuda.device_count() if options.on_gpu else 0
    if n_ranks < 2:
        return Found("ranks", None, said="one GPU only")
    found = {}
    for n, placement in ((1, "colocated"), (n_ranks, "split"), (n_ranks, "colocated")):
        name = f"gpu_check_{n}_{placement}"
        subprocess.run([
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n}", "launch/train.py",
            "configs/toy/cpu.yaml", f"parallel.placement={placement}", "parallel.clips_per_step=2", "run.max_steps=2",
            "run.device=cuda", "optim.precision=fp32", "monitor.log_every=1", f"run.root={options.out}",
            f"run.name={name}", "--fresh"], check=True, timeout=150)
        lines = (options.out / name / "metrics.jsonl").read_text().splitlines()
        found[name] = next(row["losses"] for row in map(json.loads, lines) if "losses" in row)
    one, *others = found.values()
    most = max(worst(one, other) for other in others)
    return Found("ranks", most < TOLERANCE["fp32"], {"losses, relative": most})


PARTS: list[Callable[[Options], Found]] = [
    device, same_step, golden, host_waits, bf16, steps, generation, label_convolution, ranks, compiled]


def check(options: Options, parts: list[Callable[[Options], Found]], minutes: float) -> list[Found]:
    """Run the parts one after the other, none after so many minutes; what a part raises is what came of it."""
    began, found = time.monotonic(), []
    for part in parts:
        name, started = part.__name__.replace("_", " "), time.monotonic()
        if started - began > 60 * minutes:
            found.append(Found(name, None, said="no time left"))
            continue
        try:
            came = part(options)
        except Exception as error:
            traceback.print_exc()
            came = Found(name, False, said=f"{type(error).__name__}: {error}".splitlines()[0])
        came.seconds = time.monotonic() - started
        print(line(came), flush=True)
        found.append(came)
    return found


def line(found: Found) -> str:
    said = found.said or ", ".join(f"{name} {_short(value)}" for name, value in found.figures.items())
    word = {True: "ok", False: "FAIL", None: "-"}[found.ok]
    return f"{found.part:18}{word:6}{found.seconds:6.1f} s  {said}"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_short(x)}" for name, x in value.items()) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="key=value")
    add("--out", type=Path, default=Path("runs/gpu_check"))
    add("--golden", type=Path, default=Path(os.environ.get("GOLDEN", "../shared/golden")))
    add("--minutes", type=float, default=8, help="no part begins later (8)")
    add("--small", action="store_true", default=not torch.cuda.is_available(), help="as on a CPU")
    add("--only", nargs="+", metavar="PART", choices=[part.__name__ for part in PARTS], help="parts by name")
    args = parser.parse_intermixed_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    args.out.mkdir(parents=True, exist_ok=True)
    provide_shards(args.overrides)
    options = Options(open_grid().in_pipelines(1), args.out, args.golden, args.small, args.overrides)
    chosen = [part for part in PARTS if not args.only or part.__name__ in args.only]
    found = check(options, chosen, args.minutes)
    print(*["", *map(line, found)], sep="\n")
    told = {"device": device_name(options.grid.device), "date": time.strftime("%Y-%m-%d"), "small": args.small,
            "parts": [asdict(part) for part in found]}
    (args.out / "gpu_check.json").write_text(json.dumps(told, indent=1))
    return int(any(part.ok is False for part in found))


if __name__ == "__main__":
    run_main(main)
