"""A process of `tools.bench_performance`: drives one checkout of the code, which may be of another commit.

    python -m tools.performance.worker CHECKOUT JOB.json    in this checkout's folder

The tools are those of this checkout. A training or generation does one step for every line that it reads, and prints
the processor seconds; what is asked for once is printed as JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from tools.operations import Operations

N_GEMM = 1536


@dataclass(frozen=True)
class Job:
    """`kind`: step, generation, operations, bound or plan. `config`: below the checkout; `of`: what a bound is of."""

    kind: str
    config: str
    size: tuple[int, int]
    overrides: list[str] = field(default_factory=list)
    n_frames: int = 2
    n_lanes: int = 1
    of: str = ""


def some_frames(n: int, width: int, height: int) -> Any:
    """Frames with blocks of labels, among them foreground, that move over a smooth picture."""
    from vid2vid_dist.data.clips import Frames

    draws = torch.Generator().manual_seed(0)
    block = width // 16
    labels = torch.randint(35, (1, 1, 8, 16 + n), generator=draws, dtype=torch.uint8)
    wide = labels.repeat_interleave(block, 2).repeat_interleave(block, 3)
    moved = torch.cat([wide[..., 4 * i : 4 * i + width] for i in range(n)])
    small = torch.rand(1, 3, 8, 16 + n, generator=draws)
    smooth = torch.nn.functional.interpolate(small, size=wide.shape[-2:], mode="bicubic").clamp(0, 1).mul(255).byte()
    images = torch.cat([smooth[..., 4 * i : 4 * i + width] for i in range(n)]).contiguous()
    return Frames(moved.contiguous(), images, moved.int().contiguous(), [str(i) for i in range(n)])


def step_of(driver: Any, kind: str, job: Job) -> Callable[[], object]:
    config = str(Path(sys.argv[1]) / job.config)
    frames = some_frames(job.n_frames + 2, *job.size)
    return generation(driver, config, job.overrides, frames) if kind == "generation" else driver.training(
        config, job.overrides, frames)


def generation(driver: Any, config: str, overrides: list[str], frames: Any) -> Callable[[], object]:
    """A frame of a video that goes on."""
    from vid2vid_dist.config.load import load_config
    from vid2vid_dist.models.generator import Generator

    cfg = load_config(config, overrides)
    torch.manual_seed(0)
    video = driver.VideoGenerator(Generator(cfg), cfg, torch.device("cpu"), torch.float32)
    n_past = cfg.generator.n_frames_G - 1
    video.start([frames.part(slice(0, n_past))], None)
    return lambda: video.step([frames.part(slice(n_past, n_past + 1))])


def gemm_rate() -> float:
    """FLOP/s of a large matrix product on one thread, the best of some."""
    a, b = torch.rand(N_GEMM, N_GEMM), torch.rand(N_GEMM, N_GEMM)
    seconds = []
    for _ in range(7):
        started = time.process_time()
        torch.mm(a, b)
        seconds.append(time.process_time() - started)
    return 2 * N_GEMM**3 / min(seconds)


def counted(step: Callable[[], object]) -> Operations:
    """The second step."""
    step()
    with Operations(SimpleNamespace(current="")) as found:
        step()
    return found


def main() -> None:
    checkout, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    sys.path.insert(0, checkout)  # its package, but not its tools
    driver = import_module("tools.performance.now" if find_spec("vid2vid_dist.engine.run")
                           else "tools.performance.be28d2a")
    torch.set_num_threads(1)
    if job.kind == "plan":
        print(json.dumps(driver.planned(str(Path(checkout) / job.config), job.size, job.n_lanes)))
    elif job.kind == "bound":  # of a step at the rate of a large product
        print(json.dumps({"flops": counted(step_of(driver, job.of, job)).flops, "rate": gemm_rate()}))
    elif job.kind == "operations":
        driver.as_on_a_gpu()
        print(json.dumps(sum(counted(step_of(driver, job.kind, job)).of_span.values())))
    else:
        step = step_of(driver, job.kind, job)
        for _ in sys.stdin:
            started = time.process_time()
            step()
            print(time.process_time() - started, flush=True)


if __name__ == "__main__":
    main()
