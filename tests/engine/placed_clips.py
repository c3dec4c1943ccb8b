"""A worker of `Batches`: steps on given clips by the roles of a placement; finds losses, gradients and weights.

Arguments of a job: PLACEMENT PIPELINES N_CLIPS N_FRAMES_BP IN_FLIGHT AHEAD OPTIMIZER LR key=value …
PLACEMENT may be "textbook", the reference, which one process computes without the engine.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache

import torch
from torch import Tensor, nn

from tests.engine.batch import work
from tests.engine.spread_clips import CHUNK, HEIGHT, N_STEPS, SMALL, WIDTH, clip
from tests.engine.textbook_craft import in_use
from tests.engine.textbook_step import TextbookStep
from tools.lanes import advance
from tools.parity.trace import StandInFlow
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.costs import Costs, count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import Layout, colocated, explicit, split
from vid2vid_dist.engine.plan.planner import left_at
from vid2vid_dist.engine.plan.role import RateGroup, RoleSpecs
from vid2vid_dist.engine.plan.schedule import Plan, Strategy, in_order, make_plan, needed_frames
from vid2vid_dist.engine.plan.tasks import LaneChunk, NeededFrames, Site, StepShape
from vid2vid_dist.engine.plan.tensors import FrameSize
from vid2vid_dist.engine.roles.build import build_modules, build_roles, role_specs
from vid2vid_dist.engine.run.clip import ClipInFlight
from vid2vid_dist.engine.run.executor import Executor
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.network_input import encode_inputs, encode_pictures


class PlacedJob:
    """Clips and roles of a job. `in_flight`: lanes at a time; `ahead`: reference flow a step ahead."""

    def __init__(self, overrides: tuple[str, ...], grid: Grid, placement: str, pipelines: int, n_clips: int,
                 n_frames_bp: int, in_flight: int, ahead: bool) -> None:
        n_slots = grid.world_size // pipelines
        self.overrides, self.specs, self.grid = overrides, _specs(overrides), grid.in_pipelines(n_slots)
        self.cfg = self.specs.cfg
        self.layout = _layout(self.specs, placement, n_slots)
        self.n_clips, self.n_frames_bp, self.in_flight, self.ahead = n_clips, n_frames_bp, in_flight, ahead
        self.all_scales = not self.cfg.schedule.niter_fix_global
        self.transport = Transport(self.grid, timedelta(minutes=3))  # longer than the C++ compiler takes
        self.features = None if self.cfg.loss.no_vgg else StandInFeatures()

    def chunks(self, n: int, step: int) -> LaneChunk:
        """A lane's part in a step: clips of odd number are one chunk shorter, so their lanes rest in the last step."""
        return LaneChunk(step * CHUNK, CHUNK if step < N_STEPS - n % 2 else 0)

    def train(self, n_steps: int, make_optimizer: Callable) -> dict[str, Tensor]:
        cfg, specs, grid = self.cfg, self.specs, self.grid
        frozen: dict[str, nn.Module] = {"flow": StandInFlow()}
        if self.features is not None:
            frozen["perceptual"] = self.features
        roles = build_roles(specs, grid.holders(self.layout.slots), in_use(build_modules(specs)), frozen,
                            dict.fromkeys(RateGroup, make_optimizer), self.all_scales)
        # Not the order in which gradients are complete: buckets wait for each other here.
        turn = ["generator", "temporal_0", "face", "image"]
        reductions = sorted(specs.buckets, key=lambda bucket: turn.index(bucket.role) if bucket.role in turn else -1)
        executor = Executor(roles, specs.shapes(), grid.rank_in_pipeline, self.transport, DTYPES[cfg.optim.precision],
                            reductions)
        modules = {role: engine.module for role, engine in executor.engines().items()}
        n_past = cfg.generator.n_frames_G - 1
        mine = range(grid.pipeline, self.n_clips, grid.ranks.shape[0])
        given = {n: _clip(cfg, n) for n in mine}
        clips = {n: ClipInFlight(cfg.generator.n_scales_spatial, FrameSize(1, HEIGHT, WIDTH)) for n in mine}
        fixed: dict[Site, int] = {}

        def feed(n: int, needed: NeededFrames) -> None:
            """Frames that the rank has not yet, and no others: what a task reads besides is an error."""
            new = needed - NeededFrames(frozenset(clips[n].labels), frozenset(clips[n].real))
            labels, real = ([_picked(given[n], numbers, n_past)] for numbers in (new.labels, new.real))
            clips[n].add_labels(sorted(new.labels), encode_inputs(cfg, labels, grid.device, executor.dtype))
            clips[n].add_real(sorted(new.real), encode_pictures(real, grid.device, executor.dtype))

        found = self._weights(modules, "initial.")
        self.transport.step = 0
        for step in range(n_steps):
            last = step + 1 == N_STEPS
            now = tuple(self.chunks(n, step) for n in mine)
            after = tuple(self.chunks(n, step + 1) for n in mine) if self.ahead and not last else ()
            shape = StepShape(now, after, flow_ready=self.ahead and step > 0, n_frames_bp=self.n_frames_bp,
                              train_all_scales=self.all_scales, in_flight=self.in_flight)
            plan = self._plan(shape, fixed, split_scales=step != 1)
            fixed = left_at(plan) | {site: slot for site, slot in plan.assignment.items()
                                     if site.role.startswith("temporal")}
            for lane, n in enumerate(mine):
                feed(n, needed_frames(specs, plan, grid.rank_in_pipeline, lane, now[lane]))
            n_active = sum(self.chunks(n, step).n_frames > 0 for n in range(self.n_clips))
            parts = [LanePart(clips[n], CHUNK, 1 / n_active) if self.chunks(n, step).n_frames else None for n in mine]
            losses = executor.step(plan, shape, parts, specs.active(LaneChunk(step * CHUNK, CHUNK))).losses
            for part in parts:
                if part is not None:
                    advance(cfg, part)
            names = sorted({name for of_rank in grid.gather(list(losses)) for name in of_rank})
            found[f"losses.{step}"] = grid.sum(torch.stack([losses.get(name, torch.zeros(())).double()
                                                            for name in names]))
        found |= self._weights(modules)
        for engine in executor.engines().values():
            engine.close()
        return found

    def train_textbook(self, n_steps: int, make_optimizer: Callable) -> dict[str, Tensor]:
        """What every placement has to equal."""
        modules = in_use(build_modules(self.specs))
        textbook = TextbookStep(self.cfg, modules, StandInFlow(), self.features, make_optimizer, self.all_scales)
        found = self._weights(modules, "initial.")
        for step in range(n_steps):
            clips = {n: _clip(self.cfg, n) for n in range(self.n_clips) if self.chunks(n, step).n_frames}
            losses = textbook.step(clips, step * CHUNK, CHUNK, self.n_frames_bp)
            found[f"losses.{step}"] = torch.stack([losses[name].double() for name in sorted(losses)])
        return found | self._weights(modules)

    def _plan(self, shape: StepShape, fixed: dict[Site, int], split_scales: bool) -> Plan:
        if self.layout.n_slots == 1:
            return in_order(step_tasks(self.specs, shape, whole_chunks=True), self.layout)
        return make_plan(step_tasks(self.specs, shape), self.layout, _costs(self.overrides), fixed=fixed,
                         n_pipelines=self.grid.ranks.shape[0], strategy=Strategy(split_scales))

    def _weights(self, modules: dict[str, nn.Module], prefix: str = "") -> dict[str, Tensor]:
        """Weights of all roles, by `ROLE.NAME`, whatever rank has them."""
        mine = {f"{prefix}{role}.{name}": p.detach().numpy().copy() for role, module in modules.items()
                for name, p in module.named_parameters()}  # arrays are pickled many times faster than tensors
        return {name: torch.from_numpy(array) for of_rank in self.grid.gather(mine) for name, array in of_rank.items()}


@cache
def _specs(overrides: tuple[str, ...]) -> RoleSpecs:
    return role_specs(load_config(None, [*SMALL, *overrides]))


@cache
def _costs(overrides: tuple[str, ...]) -> Costs:
    """Counting takes longer than a small job."""
    return count_costs(_specs(overrides), HEIGHT, WIDTH)


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


def _layout(specs: RoleSpecs, placement: str, n_slots: int) -> Layout:
    kind, _, numbers = placement.partition(":")
    if kind == "split":
        n_generator, n_discriminator = map(int, numbers.split("+"))
        return split(specs, n_generator, n_discriminator)
    return explicit(specs, placement, n_slots) if "=" in placement else colocated(specs, n_slots)


def run(grid: Grid, arguments: list[str]) -> dict[str, Tensor]:
    placement, pipelines, n_clips, n_frames_bp, in_flight, ahead, optimizer, lr, *overrides = arguments
    job = PlacedJob(tuple(overrides), grid, placement, int(pipelines), int(n_clips), int(n_frames_bp), int(in_flight),
                    bool(int(ahead)))

    def descend(parameters: list) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)

    train = job.train_textbook if placement == "textbook" else job.train
    descended = train(1, descend)
    kind = getattr(torch.optim, optimizer)
    # Adam divides by the gradient's own size: with its usual eps a rounding of 2e-14 in a gradient of nearly zero moves
    # a weight by 1e-10.
    more = {"eps": 1e-6} if optimizer == "Adam" else {}
    found = train(N_STEPS, lambda parameters: kind(parameters, lr=float(lr), **more))
    for initial in [name for name in found if name.startswith("initial.")]:
        name = initial.removeprefix("initial.")
        found[f"gradient.{name}"] = found[initial].double() - descended[name].double()
    moved = [(found.pop(f"initial.{name}") - found[name]).abs().max()
             for name in [n.removeprefix("initial.") for n in found if n.startswith("initial.")]]
    found["moved"] = torch.stack(moved).max()
    return found


if __name__ == "__main__":
    run_main(lambda: work(run))
