"""A worker of `Batches`: steps on given clips by the roles of a placement; finds losses, gradients and weights.

Arguments of a job: PLACEMENT PIPELINES N_CLIPS N_FRAMES_BP IN_FLIGHT AHEAD OPTIMIZER LR key=value …
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache

import torch
from torch import Tensor

from tests.engine.batch import work
from tests.engine.spread_clips import CHUNK, HEIGHT, N_STEPS, SMALL, WIDTH, clip, part
from tools.parity.trace import StandInFlow
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.costs import Costs, count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.messages import FrameSize
from vid2vid_dist.engine.plan.needed_frames import reads_of
from vid2vid_dist.engine.plan.placement import Layout, colocated, data_parallel, explicit, split
from vid2vid_dist.engine.plan.schedule import Strategy, make_plan
from vid2vid_dist.engine.plan.tasks import LaneChunk, Site, StepShape
from vid2vid_dist.engine.roles.build import FrozenNetworks, Optimizers, build_held_roles, build_modules, build_roles
from vid2vid_dist.engine.run.clip import ClipBuffer, Reads
from vid2vid_dist.engine.run.executor import Executor, HeldRoles
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.lane import Lane
from vid2vid_dist.engine.run.step import LaneWork, Roles, active_roles, train_step
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.network_input import encode_inputs, encode_pictures


class PlacedJob:
    """Clips and roles of a job. `in_flight`: lanes at a time; `ahead`: reference flow a step ahead."""

    def __init__(self, overrides: tuple[str, ...], grid: Grid, placement: str, pipelines: int, n_clips: int,
                 n_frames_bp: int, in_flight: int, ahead: bool) -> None:
        n_slots = grid.world_size // pipelines
        cfg = _config(overrides)
        self.overrides, self.cfg, self.grid = overrides, cfg, grid.in_pipelines(n_slots)
        self.layout = _layout(cfg, placement, n_slots)
        self.n_clips, self.n_frames_bp, self.in_flight, self.ahead = n_clips, n_frames_bp, in_flight, ahead
        self.all_scales = not cfg.schedule.niter_fix_global
        self.transport = Transport(self.grid, timedelta(seconds=60))

    def chunks(self, n: int, step: int) -> LaneChunk:
        """A lane's part in a step: clips of odd number are one chunk shorter, so their lanes rest in the last step."""
        return LaneChunk(step * CHUNK, CHUNK if step < N_STEPS - n % 2 else 0)

    def train(self, n_steps: int, make_optimizer: Callable) -> dict[str, Tensor]:
        cfg, grid = self.cfg, self.grid
        dtype = DTYPES[cfg.optim.precision]
        frozen = FrozenNetworks(StandInFlow(), None if cfg.loss.no_vgg else StandInFeatures())
        roles = build_held_roles(cfg, grid.holders(self.layout.slots), build_modules(cfg), frozen,
                                 Optimizers(make_optimizer, make_optimizer, make_optimizer), self.all_scales)
        # Not the order in which gradients are complete: roles wait for each other here.
        executor = Executor(cfg, roles, grid.slot, self.transport, dtype, ("generator", "temporal_0", "face", "image"))
        n_past = cfg.generator.n_frames_G - 1
        mine = range(grid.pipeline, self.n_clips, grid.ranks.shape[0])
        clips = {n: _clip(cfg, n) for n in mine}
        buffers = {n: ClipBuffer(cfg.generator.n_scales_spatial, FrameSize(1, HEIGHT, WIDTH)) for n in mine}
        fixed: dict[Site, int] = {}

        def feed(n: int, reads: Reads) -> None:
            """Frames that the rank has not yet, and no others: what a task reads besides is an error."""
            new = reads - Reads(frozenset(buffers[n].labels), frozenset(buffers[n].real))
            labels, real = ([_picked(clips[n], numbers, n_past)] for numbers in (new.labels, new.real))
            buffers[n].add_labels(sorted(new.labels), encode_inputs(cfg, labels, grid.device, dtype))
            buffers[n].add_real(sorted(new.real), encode_pictures(real, grid.device, dtype))

        found = self._weights(roles, "initial.")
        for step in range(n_steps):
            last = step + 1 == N_STEPS
            now = tuple(self.chunks(n, step) for n in mine)
            after = tuple(self.chunks(n, step + 1) for n in mine) if self.ahead and not last else ()
            shape = StepShape(now, after, flow_ready=self.ahead and step > 0, n_frames_bp=self.n_frames_bp,
                              train_all_scales=self.all_scales, in_flight=self.in_flight)
            plan = make_plan(step_tasks(cfg, shape), self.layout, _costs(self.overrides), fixed=fixed,
                             n_pipelines=grid.ranks.shape[0], strategy=Strategy(split_scales=step != 1))
            fixed = {site: slot for site, slot in plan.placement.items()
                     if site.role.startswith("temporal") or any(site == to for t in plan.tasks for _, to in t.carries)}
            for lane, n in enumerate(mine):
                feed(n, reads_of(cfg, plan, grid.slot, lane, now[lane]))
            n_active = sum(self.chunks(n, step).n_frames > 0 for n in range(self.n_clips))
            parts = [LanePart(buffers[n], CHUNK, 1 / n_active) if self.chunks(n, step).n_frames else None for n in mine]
            losses = executor.step(plan, shape, parts, active_roles(cfg, step * CHUNK, CHUNK)).losses
            names = sorted({name for of_rank in grid.gather(list(losses)) for name in of_rank})
            found[f"losses.{step}"] = grid.sum(torch.stack([losses.get(name, torch.zeros(())).double()
                                                            for name in names]))
        found |= self._weights(roles)
        for engine in roles.engines().values():
            engine.close()
        return found

    def train_whole(self, n_steps: int, make_optimizer: Callable) -> dict[str, Tensor]:
        """The same steps in one process, lane after lane: what every placement has to equal."""
        cfg, grid = self.cfg, self.grid
        frozen = FrozenNetworks(StandInFlow(), None if cfg.loss.no_vgg else StandInFeatures())
        roles = build_roles(cfg, grid, build_modules(cfg), frozen,
                            Optimizers(make_optimizer, make_optimizer, make_optimizer), self.all_scales)
        n_past = cfg.generator.n_frames_G - 1
        lanes = {n: Lane(cfg, grid.device, DTYPES[cfg.optim.precision]) for n in range(self.n_clips)}
        found = self._weights(roles, "initial.")
        for step in range(n_steps):
            first, end = step * CHUNK + (n_past if step else 0), n_past + (step + 1) * CHUNK
            running = [n for n in lanes if self.chunks(n, step).n_frames]
            work = [LaneWork(lanes[n], lanes[n].feed([part(_clip(cfg, n), first, end)]),
                             1 / len(running)) for n in running]
            active = active_roles(cfg, step * CHUNK, CHUNK)
            result = train_step(roles, work, active, self.n_frames_bp, detach_coarse=not self.all_scales)
            found[f"losses.{step}"] = torch.stack([result.losses[name].double() for name in sorted(result.losses)])
        found |= self._weights(roles)
        for engine in roles.engines().values():
            engine.close()
        return found

    def _weights(self, roles: Roles | HeldRoles, prefix: str = "") -> dict[str, Tensor]:
        """Weights of all roles, by `ROLE.NAME`, whatever rank has them."""
        mine = {f"{prefix}{role}.{name}": p.detach().numpy().copy() for role, engine in roles.engines().items()
                for name, p in engine.module.named_parameters()}  # arrays are pickled many times faster than tensors
        return {name: torch.from_numpy(array) for of_rank in self.grid.gather(mine) for name, array in of_rank.items()}


@cache
def _config(overrides: tuple[str, ...]) -> Config:
    return load_config(None, [*SMALL, *overrides])


@cache
def _costs(overrides: tuple[str, ...]) -> Costs:
    """Counting takes longer than a small job."""
    return count_costs(_config(overrides), HEIGHT, WIDTH)


class StandInFeatures(torch.nn.Module):
    """Five feature maps of a picture, as VGG19 would give them."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [torch.sin((k + 1) * images.roll(k, dims=-1)) for k in range(5)]


def _clip(cfg: Config, number: int) -> Frames:
    """A whole clip; in place of label maps pictures of poses, with heads here and there, if that is asked for."""
    frames = clip(number, cfg.generator.n_frames_G - 1 + N_STEPS * CHUNK)
    if cfg.data.label_nc:
        return frames
    assert frames.images is not None
    poses = frames.images.flip(1)
    poses[:, 2] = torch.where(frames.labels[:, 0] == 3, 255, 0)
    return replace(frames, labels=poses)


def _picked(frames: Frames, numbers: frozenset[int], n_past: int) -> Frames:
    """Frames of a whole clip by their numbers from the first generated one, in their order."""
    these = [i + n_past for i in sorted(numbers)]
    assert frames.images is not None
    assert frames.instances is not None
    return Frames(frames.labels[these], frames.images[these], frames.instances[these], [])


def _layout(cfg: Config, placement: str, n_slots: int) -> Layout:
    kind, _, numbers = placement.partition(":")
    if kind == "split":
        n_generator, n_discriminator = map(int, numbers.split("+"))
        return split(cfg, n_generator, n_discriminator)
    if "=" in placement:
        return explicit(cfg, placement, n_slots)
    return {"colocated": colocated, "data_parallel": data_parallel, "whole": colocated}[kind](cfg, n_slots)


def run(grid: Grid, arguments: list[str]) -> dict[str, Tensor]:
    placement, pipelines, n_clips, n_frames_bp, in_flight, ahead, optimizer, lr, *overrides = arguments
    job = PlacedJob(tuple(overrides), grid, placement, int(pipelines), int(n_clips), int(n_frames_bp), int(in_flight),
                    bool(int(ahead)))

    def descend(parameters: list) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)

    train = job.train_whole if placement == "whole" else job.train
    descended = train(1, descend)
    kind = getattr(torch.optim, optimizer)
    # Adam divides by the gradient's own size: with its usual eps a rounding of 2e-14 in a gradient of nearly zero moves
    # a weight by 1e-10.
    more = {"eps": 1e-6} if optimizer == "Adam" else {}
    found = train(N_STEPS, lambda parameters: kind(parameters, lr=float(lr), **more))
    for initial in [name for name in found if name.startswith("initial.")]:
        name = initial.removeprefix("initial.")
        found[f"gradient.{name}"] = found.pop(initial).double() - descended[name].double()
    return found


if __name__ == "__main__":
    run_main(lambda: work(run))
