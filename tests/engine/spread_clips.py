"""A worker of `Batches`: steps on given clips, spread over the ranks; finds losses, gradients and weights.

Arguments of a job: LANES N_CLIPS OPTIMIZER LR key=value …
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.engine.batch import work
from tools.parity.trace import StandInFlow
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.roles.build import FrozenNetworks, Optimizers, build_modules, build_roles
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.lane import Lane
from vid2vid_dist.engine.run.step import LaneWork, active_roles, train_step
from vid2vid_dist.models.precision import DTYPES

HEIGHT, WIDTH, CHUNK, N_STEPS = 32, 64, 3, 3
SMALL = [
    "data.label_nc=8", "data.use_instance=true", "generator.ngf=4", "generator.n_blocks=2",
    "generator.n_blocks_local=1", "generator.n_downsample_G=2", "generator.n_scales_spatial=2",
    "generator.fg=true", "generator.fg_labels=[3, 5]",
    "discriminator.ndf=4", "discriminator.num_D=2", "loss.no_vgg=true",
]


def clip(number: int, n_frames: int) -> Frames:
    """Random blocks of labels and smooth random pictures, a function of the number.

    Smooth, because the gradient of a warp jumps where a flow crosses a whole pixel, and flows start near zero.
    """
    random = torch.Generator().manual_seed(number)

    def blocks(high: int, channels: int, dtype: torch.dtype) -> Tensor:
        coarse = torch.randint(0, high, (n_frames, channels, HEIGHT // 4, WIDTH // 4), generator=random)
        return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3).to(dtype)

    pictures = torch.rand(n_frames, 3, HEIGHT // 8, WIDTH // 8, generator=random)
    pictures = torch.nn.functional.interpolate(pictures, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1) * 255
    names = [str(i) for i in range(n_frames)]
    return Frames(blocks(8, 1, torch.uint8), pictures.to(torch.uint8), blocks(40, 1, torch.int32), names)


def part(frames: Frames, first: int, end: int) -> Frames:
    these = slice(first, end)
    assert frames.images is not None
    assert frames.instances is not None
    return Frames(frames.labels[these], frames.images[these], frames.instances[these], frames.names[these])


def train(cfg: Config, grid: Grid, n_clips: int, n_steps: int, make_optimizer: Callable) -> dict[str, Tensor]:
    """Losses of each step, summed over the ranks, and the weights after the last: `losses.N` and `ROLE.NAME`."""
    roles = build_roles(cfg, grid, build_modules(cfg), FrozenNetworks(StandInFlow(), None),
                        Optimizers(make_optimizer, make_optimizer, make_optimizer), train_all_scales=True)
    n_past = cfg.generator.n_frames_G - 1
    clips = {n: clip(n, n_past + N_STEPS * CHUNK) for n in range(grid.rank, n_clips, grid.world_size)}
    lanes = {n: Lane(cfg, grid.device, DTYPES[cfg.optim.precision]) for n in clips}
    found = {}
    for step in range(n_steps):
        first, end = step * CHUNK + (n_past if step else 0), n_past + (step + 1) * CHUNK
        work = [LaneWork(lanes[n], lanes[n].feed([part(clips[n], first, end)]), 1 / n_clips) for n in clips]
        active = active_roles(cfg, step * CHUNK, CHUNK)
        result = train_step(roles, work, active, n_frames_bp=2, detach_coarse=False)
        names = sorted(grid.from_first(list(result.losses)))
        mine = torch.stack([result.losses.get(name, torch.zeros(())).double() for name in names])
        found[f"losses.{step}"] = grid.sum(mine)
    for role, engine in roles.engines().items():
        found |= {f"{role}.{name}": p.detach().clone() for name, p in engine.module.named_parameters()}
        engine.close()
    return found


def gradients(cfg: Config, grid: Grid, n_clips: int) -> dict[str, Tensor]:
    """Reduced gradients of the first step: the way that plain descent at rate 1 goes, `gradient.ROLE.NAME`.

    With them the initial weights, `initial.ROLE.NAME`.
    """
    def descend(parameters: list) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)

    before, after = (train(cfg, grid, n_clips, n_steps, descend) for n_steps in (0, 1))
    found = {f"gradient.{name}": before[name].double() - after[name].double() for name in before}
    return found | {f"initial.{name}": tensor for name, tensor in before.items()}


def run(grid: Grid, arguments: list[str]) -> dict[str, Tensor]:
    lanes_per_rank, n_clips, optimizer, lr, *overrides = arguments
    n_lanes = int(lanes_per_rank) * grid.world_size
    cfg = load_config(None, [*SMALL, f"parallel.clips_per_step={n_lanes}", *overrides])
    kind = getattr(torch.optim, optimizer)
    found = gradients(cfg, grid, int(n_clips))
    found |= train(cfg, grid, int(n_clips), N_STEPS, lambda parameters: kind(parameters, lr=float(lr)))
    initial = [name for name in found if name.startswith("initial.")]
    ways = [(found[name.removeprefix("initial.")] - found.pop(name)).abs().max() for name in initial]
    found["moved"] = torch.stack(ways).max()
    return found


if __name__ == "__main__":
    run_main(lambda: work(run))
