"""A training run on this rank: epochs, rounds, chunks, and what happens between steps."""

import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vid2vid_dist.config.load import to_yaml
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.atomic import write_atomically
from vid2vid_dist.data.clips import ClipSource
from vid2vid_dist.data.decoding import Decoders
from vid2vid_dist.engine.plan.planner import choose_placement, expected_step
from vid2vid_dist.engine.plan.role import RateGroup
from vid2vid_dist.engine.plan.search import Choice
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.engine.run.allocator import allocator_settings
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.compiling import compiler_problem
from vid2vid_dist.monitor.logs import nonfatal
from vid2vid_dist.monitor.plan_report import grid_table
from vid2vid_dist.monitor.run import RunMonitor
from vid2vid_dist.network_input import FrameLoader
from vid2vid_dist.training import checkpoint, probe_step
from vid2vid_dist.training.checkpoint import Position
from vid2vid_dist.training.curriculum import Phase, n_epochs, phase
from vid2vid_dist.training.epoch import Epoch, after, plan_epoch
from vid2vid_dist.training.faults import FaultHandler
from vid2vid_dist.training.out_of_memory import explain_out_of_memory
from vid2vid_dist.training.preemption import Ask, Asked
from vid2vid_dist.training.reporter import Reporter
from vid2vid_dist.training.run_lock import take_run_folder
from vid2vid_dist.training.saver import Saved, Saver
from vid2vid_dist.training.state import TrainingState, settle_clips
from vid2vid_dist.training.status import Status, count_restarts
from vid2vid_dist.training.steps import Steps
from vid2vid_dist.training.tracing import Tracer
from vid2vid_dist.training.validation import ValidationClips, generate_command
from vid2vid_dist.training.watchdog import HEARTBEAT, Watchdog
from vid2vid_dist.version import code_version, versions

log = logging.getLogger(__name__)

PATIENCE = 60  # seconds for another run to leave the folder
GRACE = 10.0  # seconds for a save that goes on when a run fails


class Trainer:
    """Trains until the schedule ends or `run.max_steps` is reached, from the newest checkpoint if there is one.

    Raises `UserError`, before the first step, for everything that can be known to go wrong.
    """

    def __init__(self, cfg: Config, grid: Grid) -> None:
        self.cfg, self.grid = cfg, grid
        self.run_dir = Path(cfg.run.root) / cfg.run.name
        self.status = Status(self.run_dir, grid.rank, grid.on_first(self._take_run_folder))
        self.asked = Asked(cfg.run, looks=grid.is_first)
        try:
            with self.asked.listening(raises=True):
                self._get_ready(cfg, grid)
        except BaseException as error:
            self.status.write_failure(error, None)
            raise

    def _get_ready(self, cfg: Config, grid: Grid) -> None:
        self.source = ClipSource.of(cfg, check_tars=grid.is_first)
        # Verifying reads every byte of the checkpoint: once is enough.
        resume = grid.on_first(lambda: checkpoint.newest_checkpoint(self.run_dir))
        self.cfg = cfg = settle_clips(cfg, grid.world_size, resume)
        self._check_data()
        self.decoders = Decoders(FrameLoader(self.source), cfg.data.workers, self.source.task.in_python)
        if cfg.optim.compile == "tasks" and (problem := compiler_problem(grid.device)):
            raise UserError(f"{problem}, or set optim.compile=off")
        self.specs = role_specs(cfg)
        placed = grid.on_first(lambda: choose_placement(self.specs, *self._longest_step()))
        self.grid = grid = grid.in_pipelines(placed.layout.n_slots)
        self.state = TrainingState(self.specs, grid, self.source.identity(), self.source.longest, resume, placed)
        self._check_sizes()
        grid.on_first(self._describe_run)
        self.monitor = RunMonitor(self.run_dir, cfg, grid.rank, grid.world_size)
        self.reporter = Reporter(self.specs, grid, self.monitor, self.state.figures)
        self.faults = FaultHandler(cfg, grid, self.asked, self.monitor.event)
        self.watchdog = Watchdog(self.run_dir, grid.rank, grid.world_size, grid.timeout.total_seconds() / 2,
                                 self.state.pipeline.timer)
        self.tracer = Tracer(cfg, grid, self.run_dir)
        self.saver = Saver(self.run_dir, grid, cfg.run.keep_last, cfg.run.keep_every_steps)
        self._n_steps = self._count_steps()
        self._saved_at, self._last_save = self.state.position, time.monotonic()
        table = grid_table(placed.layout, placed.n_pipelines, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        reason = f"{placed.layout.name}: {placed.reason}\n" if placed.reason else ""
        memory = f", {allocator_settings()}" if grid.device.type == "cuda" else ""
        self.monitor.event(f"on {grid.device.type}{memory}:\n{reason}{table}")
        for report in self.state.pretrained:
            self.monitor.event(report.line())
        if resume:
            at = self.state.position
            self.monitor.event(f"resumed from {resume}: step {at.step}, epoch {at.epoch}")
        for line in self.state.changes:
            self.monitor.event(f"changed since then: {line}")

    def run(self) -> None:
        """Train to the end, or until asked to stop; leaves a checkpoint, and the outcome in status.json."""
        if self._is_complete():
            self.monitor.event("nothing left to train: raise schedule.niter or run.max_steps, or take another run.name")
        try:
            with self.asked.listening(), self.watchdog:
                with self.grid.meeting(self.state.position.step, "opening the validation clips"):
                    validation = ValidationClips(self.cfg, self.grid, self.state, self.monitor.event)
                if not self._ends():
                    self._dry_run()
                while not self._ends():
                    self._run_epoch(self.state.position.epoch, validation)
                if self._saved_at.step != self.state.position.step:
                    self._save()
                self._note(self.saver.finish(self.watchdog.signs))
                if self.saver.last is not None:
                    self.saver.last.require()
        except BaseException as error:
            if isinstance(error, UserError):  # most of all that a step was not finite: the save before it still counts
                self._note(self.saver.poll(GRACE))
            out_of_memory = explain_out_of_memory(error, self.grid, self._expected_step)
            self.status.write_failure(out_of_memory or error, self.state.position, self.watchdog.finding)
            self.monitor.close("failed")
            if out_of_memory is not None:
                raise out_of_memory from error
            raise
        self._close()

    def _close(self) -> None:
        """Say how the run ended."""
        ask = self.faults.ask
        outcome, why = ("finished", {}) if self._is_complete() else (ask.outcome, {"why": ask.words})
        self.asked.served(Ask.STOP_FILE)  # whatever is asked for, this is the end
        if self.grid.is_first:
            words = why.get("why") or (
                f"look at {self.run_dir}/web/index.html; {generate_command(self.cfg, self.run_dir)} makes videos"
                if self.state.position.step else "every clip was left out, as told above: mend the shards")
            self.monitor.event(f"{outcome} after step {self.state.position.step}: {words}")
            self.status.write_end(outcome, self.state.position, **why)
        self.monitor.close(outcome)

    def _run_epoch(self, number: int, validation: ValidationClips) -> None:
        """The steps of an epoch that are still to be done, to its end or to the end of a round that is given up."""
        now = self.state.enter(number)
        plan = self._plan(number, now)
        start = (self.state.position.round, self.state.position.chunk)
        if start != (0, 0) and self._saved_at == self.state.position:
            self.state.require_start(plan, now)
        steps = self._steps(plan, now, start, self.faults)
        if start == (0, 0):
            self.monitor.event(
                f"epoch {number}: {len(plan.rounds)} rounds, {self.cfg.parallel.clips_per_step} clips per step, "
                f"clips of up to {now.n_frames_total} frames in chunks of {now.chunk_frames}, "
                f"lr {now.rates[RateGroup.GENERATOR].lr:.2g}"
            )
        for step, (round_number, chunk) in enumerate(plan.steps(start), self.state.position.step + 1):
            self.watchdog.step = step
            with self.grid.meeting(step, "gradients of all ranks"), self.tracer.around(step, self.state.pipeline):
                goes_on = steps.run(round_number, chunk)
            if not goes_on:
                self.state.position = after(plan, Position(step - 1, number, round_number), whole_round=True)
                return
            self.reporter.add_times(self.state.pipeline.timer)
            self.state.position = after(plan, Position(step, number, round_number, chunk))
            with self.grid.meeting(step, "losses of all ranks"):
                interval_ends = self.reporter.after_step(step, number, now, self._n_steps - step)
            if validation.is_due(step):
                with self.grid.meeting(step, "validation clips"):
                    found = validation.measure()
                if found is not None:
                    self.monitor.validation(step, found)
            self._note(self.saver.poll())
            if self._ends():
                return
            if self._save_is_due(interval_ends) or self.faults.ask == Ask.SAVE_FILE:
                self._save()
                self.asked.served(Ask.SAVE_FILE)

    def _dry_run(self) -> None:
        """Run the largest step to come now, its update refused: what does not fit is to fail at once."""
        number = probe_step.heaviest_epoch(self.cfg, self.state.position.epoch, self.source.longest)
        if number is None or not probe_step.is_probed(self.cfg.run, self.grid):
            return
        now = self.state.phase(number)
        plan = self._plan(number, now)
        refusal = probe_step.Refusal(self.cfg, self.grid, self.asked, self.monitor.event)
        fullest = plan.fullest_round()
        with self.state.aside(now), probe_step.naming_probe(number, now), self.grid.meeting(0, "probe step"):
            steps = self._steps(plan, now, (fullest, 0), refusal)
            for chunk in range(probe_step.n_chunks_probed(self.specs, plan, fullest)):
                steps.run(fullest, chunk)
        self.reporter.begin_interval()
        self.monitor.event(probe_step.outcome_of_probe(number, now, self.grid.device))

    def _expected_step(self) -> Choice:
        """The planner's view of a step of the last epoch, also where every rank runs all roles."""
        return expected_step(self.specs, *self._longest_step())

    def _longest_step(self) -> tuple[int, tuple[int, int], int, int, bool]:
        """Ranks, width and height, frames of a chunk, frames that gradients run back through, whether on GPUs."""
        last = phase(self.cfg, n_epochs(self.cfg), self.source.longest)
        clip = self.source.first(last.n_frames_total, last.chunk_frames)
        return (self.grid.world_size, clip.geometry.size, last.chunk_frames, last.n_frames_bp,
                self.grid.device.type == "cuda")

    def _plan(self, number: int, now: Phase) -> Epoch:
        n_past = self.cfg.generator.n_frames_G - 1
        return plan_epoch(self.source, number, now, self.state.n_lanes, self.cfg.parallel.batch_size, n_past)

    def _steps(self, plan: Epoch, now: Phase, start: tuple[int, int], faults: FaultHandler) -> Steps:
        return Steps(self.decoders, self.state, self.reporter, faults, plan, now, start)

    def _count_steps(self) -> int:
        """Optimiser steps of the whole stage, about, for the time that is left: clips grow from epoch to epoch.

        Epochs of equal clips are laid out once.
        """
        steps: dict[tuple[int, int], int] = {}
        total = 0
        for epoch in range(1, n_epochs(self.cfg) + 1):
            now = self.state.phase(epoch)
            lengths = now.n_frames_total, now.chunk_frames
            if lengths not in steps:
                steps[lengths] = self._plan(epoch, now).n_steps
            total += steps[lengths]
        return min(total, self.cfg.run.max_steps or total)

    def _is_complete(self) -> bool:
        at, max_steps = self.state.position, self.cfg.run.max_steps
        return at.epoch > n_epochs(self.cfg) or 0 < max_steps <= at.step

    def _ends(self) -> bool:
        return self._is_complete() or bool(self.faults.ask.outcome)

    def _save_is_due(self, interval_ends: bool) -> bool:
        run = self.cfg.run
        if run.save_every_steps and self.state.position.step % run.save_every_steps == 0:
            return True
        if not run.save_every_minutes or not interval_ends:
            return False
        # Clocks differ: rank 0's decides, asked for only where the ranks meet anyway.
        with self.grid.meeting(self.state.position.step, "time of the next save"):
            return self.grid.from_first(time.monotonic() - self._last_save > 60 * run.save_every_minutes)

    def _save(self) -> None:
        step, started = self.state.position.step, time.monotonic()
        self._note(self.saver.finish(self.watchdog.signs))  # where the interval is shorter than a save takes
        with self.grid.meeting(step, "saving together"):
            self.saver.begin(step, *self.state.snapshot(), started)
        self._saved_at, self._last_save = self.state.position, time.monotonic()

    def _note(self, saved: Saved | None) -> None:
        """Report a save that has come to its end."""
        if saved is not None:
            self.monitor.saved(saved.step, str(saved.folder), saved.seconds, saved.stall, saved.fault)
            if self.grid.is_first and saved.fault is None:
                self.status.write_running(self._saved_at)

    def _check_data(self) -> None:
        """What the clips must allow: the longest chunk of the schedule, and work for every rank."""
        cfg = self.cfg
        self.source.require_chunk(phase(cfg, n_epochs(cfg), self.source.longest).chunk_frames)
        n_lanes = cfg.parallel.n_lanes(self.grid.world_size)
        if self.source.n_clips < n_lanes:
            raise UserError(f"{self.source.n_clips} clips in {cfg.data.shards} for {n_lanes} at a time: set parallel."
                            f"clips_per_step={self.source.n_clips} or less, start fewer ranks, or pack more videos")

    def _check_sizes(self) -> None:
        """The sizes of frames, against what the networks can halve."""
        if self.state.generator is not None:
            for size in sorted(self.source.sizes()):
                self.state.generator.check_size(*size)

    def _take_run_folder(self) -> int:
        """Keep other runs out of the folder, before anything in it is read; how often it was taken up before."""
        with self._writing():
            self.run_dir.mkdir(parents=True, exist_ok=True)
            patience = min(PATIENCE, self.grid.timeout.total_seconds() / 2)
            self._lock = take_run_folder(self.run_dir, patience)  # open as long as this run
            with nonfatal("the heartbeat of an earlier life"):
                (self.run_dir / HEARTBEAT).unlink(missing_ok=True)
            restarts = count_restarts(self.run_dir)
            Status(self.run_dir, self.grid.rank, restarts).write("running", None)
        return restarts

    def _describe_run(self) -> None:
        environment = {"host": platform.node(), "ranks": self.grid.world_size, "device": self.grid.device.type,
                       **versions(), **code_version()}
        with self._writing():
            write_atomically(self.run_dir / "config.yaml", to_yaml(self.cfg))
            write_atomically(self.run_dir / "environment.json", json.dumps(environment, indent=1))
        self.status.write_running(self.state.position)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write into the run's folder {self.run_dir} ({error.strerror}): check its "
                            "permissions, free some space, or set run.root to another folder") from None
