"""A placement at work: which one, the plan of each step, and what lanes in flight leave between steps."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.consent import Consent, always
from vid2vid_dist.engine.costs import CPU_CORE, Costs, count_costs
from vid2vid_dist.engine.desk import LanePart
from vid2vid_dist.engine.executor import Executor, HeldRoles, Outcome
from vid2vid_dist.engine.footage import Footage
from vid2vid_dist.engine.graph import step_tasks
from vid2vid_dist.engine.grid import Grid
from vid2vid_dist.engine.lane import count_lanes
from vid2vid_dist.engine.placement import Layout, grid_table
from vid2vid_dist.engine.plan import Plan, Run, Strategy, make_plan
from vid2vid_dist.engine.search import Wish, best_strategy, choose
from vid2vid_dist.engine.simulate import simulate
from vid2vid_dist.engine.tasks import FAR, LaneChunk, Site, StepShape, steady_shape
from vid2vid_dist.engine.timing import Timer
from vid2vid_dist.engine.transport import Transport
from vid2vid_dist.models.temporal import temporal_plan


@dataclass(frozen=True)
class Placed:
    """The placement of a run. `in_flight`: lanes of a pipeline that are worked on at a time, 0 = all.
    `reason`: why it was chosen, if that was left open.
    """

    layout: Layout
    n_pipelines: int
    in_flight: int
    costs: Costs
    strategy: Strategy
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
    costs = count_costs(cfg, size[1], size[0])
    if not on_gpus:
        costs = replace(costs, machine=CPU_CORE)
    wish = Wish(n_ranks, count_lanes(parallel, n_ranks), n_frames, parallel.placement, parallel.pipelines,
                n_frames_bp=n_frames_bp)
    choice = choose(cfg, costs, wish)
    layout = choice.plan.layout
    if layout.lane_bound or layout.n_slots == 1:
        return None
    in_flight = 0 if choice.in_flight >= choice.lanes else choice.in_flight
    shape = steady_shape(choice.lanes, n_frames, n_frames_bp, in_flight)
    strategy = best_strategy(cfg, shape, layout, costs, choice.n_pipelines)
    return Placed(layout, choice.n_pipelines, in_flight, costs, strategy, choice.reason)


class Pipeline:
    """This rank's place in a pipeline. All its ranks make the same plans, from the same numbers."""

    def __init__(self, cfg: Config, grid: Grid, placed: Placed, roles: HeldRoles, dtype: torch.dtype) -> None:
        self.cfg, self.grid, self.placed = cfg, grid, placed
        self.footage: dict[int, Footage] = {}  # by lane of the run
        self._executor = Executor(cfg, roles, grid.slot, Transport(grid), dtype)
        self._last: Plan | None = None
        self._where: dict[Site, int] = {}  # sites of clips in flight
        self._plans: dict[tuple[StepShape, frozenset[tuple[Site, int]]], Plan] = {}

    @property
    def timer(self) -> Timer:
        """Times of this rank's tasks and waits."""
        return self._executor.timer

    def planned_runs(self) -> list[Run]:
        """This rank's part of the last step, as planned: it begins at 0."""
        assert self._last is not None
        timeline = simulate(self._last).timeline
        start = min(run.start for run in timeline)
        return [replace(run, start=run.start - start, end=run.end - start) for run in timeline
                if run.slot == self.grid.slot]

    def step(self, number: int, lanes: dict[int, LanePart | None], active: list[str], n_frames_bp: int,
             train_all_scales: bool, show: bool = False, consent: Consent = always) -> Outcome:
        """Step `number` of the run, of the pipeline's lanes by their numbers in the run; see `Executor.step`.

        `show`: bring the frames of the last lane that is not resting to slot 0.
        """
        parts = list(lanes.values())
        chunks = tuple(LaneChunk(0, 0) if part is None else LaneChunk(self._known(part.footage.n_seen), part.n_frames)
                       for part in parts)
        shape = StepShape(chunks, n_frames_bp=n_frames_bp, train_all_scales=train_all_scales,
                          in_flight=self.placed.in_flight)
        plan = self._plan(shape)
        self._executor.transport.step = number
        running = [lane for lane, part in enumerate(parts) if part is not None]
        self._last = plan
        outcome = self._executor.step(plan, shape, parts, active, running[-1] if show and running else None, consent)
        heirs = {site for task in plan.tasks for _, site in task.carries}
        self._where = {site: slot for site, slot in plan.placement.items() if site in heirs}
        return outcome

    def _known(self, n_seen: int) -> int:
        """Frames of a clip that were generated before, as far as they make a difference: plans repeat sooner."""
        disc = self.cfg.discriminator
        longest = temporal_plan(FAR, 0, n_frames_D=disc.n_frames_D, n_scales_temporal=disc.n_scales_temporal,
                                sparse=disc.sparse_D).keep
        return n_seen if disc.sparse_D else min(n_seen, max(longest, self.cfg.generator.n_frames_G))

    def _plan(self, shape: StepShape) -> Plan:
        fixed = {site: slot for site, slot in self._where.items() if shape.lanes[site.lane].n_seen}
        key = shape, frozenset(fixed.items())
        if key not in self._plans:
            self._plans[key] = make_plan(step_tasks(self.cfg, shape), self.placed.layout, self.placed.costs,
                                         n_pipelines=self.placed.n_pipelines, strategy=self.placed.strategy,
                                         fixed=fixed)
        return self._plans[key]

    def save(self, folder: Path) -> None:
        """Write what lies on this rank of the clips in flight."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, footage in self.footage.items():
            save_file(footage.state(), self._file(folder, number))
        where = [[*astuple(site), slot] for site, slot in self._where.items()]
        self._sites_file(folder).write_text(json.dumps(where))

    def load(self, folder: Path, number: int) -> Footage:
        """A clip in flight, as `save` left it; the frames fed next must begin with the given ones."""
        if not self._where:
            self._where = {Site(*site): slot for *site, slot in json.loads(self._sites_file(folder).read_text())}
        footage = Footage(self.cfg.generator.n_scales_spatial)
        footage.restore(load_file(self._file(folder, number), device=str(self.grid.device)))
        return footage

    def _file(self, folder: Path, number: int) -> Path:
        return folder / f"lane_{number:04d}.slot_{self.grid.slot:03d}.safetensors"

    def _sites_file(self, folder: Path) -> Path:
        return folder / f"sites.rank_{self.grid.rank:05d}.json"
