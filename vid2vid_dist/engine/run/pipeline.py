"""A placement at work: which one, the plan of each step, and what lanes in flight leave between steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.costs import CPU_CORE, Costs, count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.messages import FrameSize
from vid2vid_dist.engine.plan.placement import Layout, grid_table
from vid2vid_dist.engine.plan.schedule import Plan, Run, Strategy, make_plan
from vid2vid_dist.engine.plan.search import Choice, PlanRequest, choose
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.tasks import FAR, LaneChunk, Site, StepShape
from vid2vid_dist.engine.run.clip import ClipBuffer, Reads
from vid2vid_dist.engine.run.executor import Executor, HeldRoles, PlacedResult
from vid2vid_dist.engine.run.finite_check import MayUpdate, always
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.in_flight import ClipState, clip_files
from vid2vid_dist.engine.run.lane import count_lanes
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.models.temporal import frames_kept
from vid2vid_dist.network_input import encode_inputs, encode_pictures


@dataclass(frozen=True)
class Placed:
    """The placement of a run. `in_flight`: lanes of a pipeline that are worked on at a time, 0 = all.
    `reductions`: `Plan.reductions` of a steady step. `reason`: why it was chosen, if that was left open.
    """

    layout: Layout
    n_pipelines: int
    in_flight: int
    costs: Costs
    strategy: Strategy
    reductions: tuple[str, ...]
    reason: str

    def table(self, ranks_per_node: int) -> str:
        """The grid as text, with the reason above it."""
        heading = [f"{self.layout.name}: {self.reason}"] if self.reason else []
        return "\n".join([*heading, grid_table(self.layout, self.n_pipelines, ranks_per_node)])


def choose_placement(cfg: Config, n_ranks: int, size: tuple[int, int], n_frames: int, n_frames_bp: int,
                     on_gpus: bool = True) -> Placed | None:
    """What `parallel.placement` asks for; None when every rank runs whole lanes of its own, which needs no plan.

    `size`: width and height of a frame. Raises `UserError` for what cannot be, with the nearest that can.
    """
    parallel = cfg.parallel
    if parallel.placement == "data_parallel" or (parallel.placement == "auto" and n_ranks == 1):
        return None
    choice = expected_step(cfg, n_ranks, size, n_frames, n_frames_bp, on_gpus)
    plan = choice.plan
    if plan.layout.lane_bound or plan.layout.n_slots == 1:
        return None
    in_flight = 0 if choice.in_flight >= choice.lanes else choice.in_flight
    return Placed(plan.layout, choice.n_pipelines, in_flight, plan.costs, plan.strategy, plan.reductions, choice.reason)


def expected_step(cfg: Config, n_ranks: int, size: tuple[int, int], n_frames: int, n_frames_bp: int,
                  on_gpus: bool = True) -> Choice:
    """A step as `parallel.placement` asks for it: its plan, time and memory. Arguments and errors as above."""
    costs = count_costs(cfg, size[1], size[0], None if on_gpus else CPU_CORE)
    parallel = cfg.parallel
    return choose(cfg, costs, PlanRequest(n_ranks, count_lanes(parallel, n_ranks), n_frames, parallel.placement,
                                           parallel.pipelines, n_frames_bp=n_frames_bp))


class Planner:
    """Plans of consecutive steps: what a clip in flight has left somewhere stays there until the clip ends.

    All ranks of a pipeline make the same plans, from the same numbers.
    """

    def __init__(self, cfg: Config, placed: Placed) -> None:
        self.cfg, self.placed = cfg, placed
        self.where: dict[Site, int] = {}  # sites of clips in flight
        self._plans: dict[tuple[StepShape, frozenset[tuple[Site, int]]], Plan] = {}

    def next(self, shape: StepShape) -> Plan:
        """The plan of the step after the last one."""
        fixed = {site: slot for site, slot in self.where.items() if shape.lanes[site.lane].n_seen}
        known = replace(shape, lanes=tuple(map(self._known, shape.lanes)), ahead=tuple(map(self._known, shape.ahead)))
        key = known, frozenset(fixed.items())
        if key not in self._plans:
            self._plans[key] = make_plan(step_tasks(self.cfg, known), self.placed.layout, self.placed.costs,
                                         n_pipelines=self.placed.n_pipelines, strategy=self.placed.strategy,
                                         fixed=fixed)
        plan = self._plans[key]
        self.where = left_at(plan)
        return plan

    def _known(self, chunk: LaneChunk) -> LaneChunk:
        """Frames of a clip that were generated before, as far as they make a difference: plans repeat sooner."""
        disc = self.cfg.discriminator
        if disc.sparse_D:
            return chunk
        longest = frames_kept(disc, FAR)
        return chunk._replace(n_seen=min(chunk.n_seen, max(longest, self.cfg.generator.n_frames_G)))


class Pipeline:
    """This rank's place in a pipeline."""

    def __init__(self, cfg: Config, grid: Grid, placed: Placed, roles: HeldRoles, dtype: torch.dtype) -> None:
        self.cfg, self.grid, self.dtype = cfg, grid, dtype
        self.planner = Planner(cfg, placed)
        self.buffers: dict[int, ClipBuffer] = {}  # by lane of the run
        self._executor = Executor(cfg, roles, grid.slot, Transport(grid), dtype, placed.reductions)
        self._last: tuple[Plan, StepShape] | None = None

    @property
    def timer(self) -> Timer:
        """Times of this rank's tasks and waits."""
        return self._executor.timer

    def planned_runs(self) -> list[Run]:
        """This rank's part of the last step, as planned: it begins at 0."""
        assert self._last is not None
        timeline = simulate(self._last[0]).timeline
        start = min(run.start for run in timeline)
        return [replace(run, start=run.start - start, end=run.end - start) for run in timeline
                if run.slot == self.grid.slot]

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within, steps have clips and plans of their own; afterwards those of before are back."""
        kept = self.planner, self.buffers, self._last
        self.planner, self.buffers = Planner(self.cfg, self.planner.placed), {}
        yield
        self.planner, self.buffers, self._last = kept
        self.timer.take()

    def feed(self, lane: int, reads: Reads, decoded: list[Frames]) -> None:
        """Take up the frames of a lane's clips that were decoded for this rank."""
        buffer, device = self.buffers[lane], self.grid.device
        if reads.labels:
            buffer.add_labels(sorted(reads.labels), encode_inputs(self.cfg, decoded, device, self.dtype))
        if reads.real:
            buffer.add_real(sorted(reads.real), encode_pictures(decoded, device, self.dtype))

    def step(self, number: int, plan: Plan, shape: StepShape, parts: list[LanePart | None], active: list[str],
             show: int | None = None, may_update: MayUpdate = always) -> PlacedResult:
        """Step `number` of the run, by the planner's next plan; the others as in `Executor.step`."""
        self._executor.transport.step = number
        self._last = plan, shape
        return self._executor.step(plan, shape, parts, active, show, may_update)

    def snapshot(self) -> dict[str, dict[str, Tensor] | str]:
        """Files of a checkpoint, by name: what lies on this rank of the clips in flight, not copied."""
        assert self._last is not None
        plan, shape = self._last
        left = InFlight([[*astuple(site), slot] for site, slot in left_at(plan).items()], bool(shape.ahead))
        return {**{self._file(number): buffer.state() for number, buffer in self.buffers.items()},
                self._in_flight_file(): json.dumps(asdict(left))}

    def load(self, folder: Path) -> bool:
        """Take up where the clips in flight lay on the same grid; whether their next reference flow is there."""
        left = InFlight(**json.loads((folder / self._in_flight_file()).read_text()))
        self.planner.where = {Site(*site): slot for *site, slot in left.sites}
        return left.flow_ready

    def load_buffer(self, folder: Path, number: int, size: FrameSize, moved: bool) -> ClipBuffer:
        """A clip in flight as `snapshot` left it, without the frames that are decoded again. `moved`: on another
        grid, or on one rank; then everything that any task may want of it is here."""
        buffer = ClipBuffer(self.cfg.generator.n_scales_spatial, size)
        device = self.grid.device
        if moved:
            lane = range(self.grid.pipeline, number + 1, self.grid.ranks.shape[0]).index(number)
            buffer.take_up(ClipState.read(clip_files(folder, number), device), lane, self.cfg)
        else:
            buffer.restore(load_file(folder / self._file(number), device=str(device)))
        return buffer

    def _file(self, number: int) -> str:
        return f"lane_{number:04d}.slot_{self.grid.slot:03d}.safetensors"

    def _in_flight_file(self) -> str:
        return f"in_flight.rank_{self.grid.rank:05d}.json"


@dataclass
class InFlight:
    """What a step has left for the next, as it is saved: slots by site, and whether flow was computed ahead."""

    sites: list[list[Any]]
    flow_ready: bool


def left_at(plan: Plan) -> dict[Site, int]:
    """Slots of the sites at which a step leaves something for the next."""
    heirs = {site for task in plan.tasks for _, site in task.carries}
    return {site: slot for site, slot in plan.placement.items() if site in heirs}
