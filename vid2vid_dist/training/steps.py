"""The optimiser steps of an epoch on this rank: decoding ahead, the clips' state, the step itself, what is reported.

One class for ranks that run all roles on lanes of their own, one for ranks that have a place in a pipeline.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import tee

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Clip, ClipSource, Frames, stream
from vid2vid_dist.engine.plan.messages import FrameSize
from vid2vid_dist.engine.run.clip import Reads
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.lane import look_back
from vid2vid_dist.engine.run.pipeline import Pipeline
from vid2vid_dist.engine.run.step import LaneWork, Roles, StepResult, active_roles, train_step, unpack_shown
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.training.curriculum import Phase
from vid2vid_dist.training.epoch import Epoch
from vid2vid_dist.training.faults import FaultHandler, LaneInput, StepInput
from vid2vid_dist.training.placed_epoch import PlacedEpoch, PlacedStep
from vid2vid_dist.training.reporter import Reporter
from vid2vid_dist.training.state import TrainingState


@dataclass(frozen=True)
class Setting:
    """What the steps of a run work with on this rank."""

    cfg: Config
    grid: Grid
    source: ClipSource
    state: TrainingState
    reporter: Reporter

    def steps(self, faults: FaultHandler, plan: Epoch, now: Phase, start: tuple[int, int]) -> Steps:
        """Those of an epoch, from (round, chunk) `start` on; `faults` decides over their updates."""
        if self.state.pipeline is None:
            return WholeSteps(self, faults, plan, now, start)
        return PlacedSteps(self, faults, plan, now, start, self.state.pipeline)


class Steps(ABC):
    """The steps of an epoch, to be run in the order of `Epoch.steps`; all ranks run them together.

    Frames are decoded ahead, until the object is dropped.
    """

    def __init__(self, setting: Setting, faults: FaultHandler, plan: Epoch, now: Phase) -> None:
        self._cfg, self._grid, self._source = setting.cfg, setting.grid, setting.source
        self._state, self._reporter, self._faults = setting.state, setting.reporter, faults
        self._plan, self._now = plan, now

    def run(self, round_: int, chunk: int) -> bool:
        """One optimiser step: the same chunk of every active lane. False when it is left out: the clips of its round
        are given up, on all ranks.
        """
        self._faults.step_input = StepInput(self._state.position, modules=self._state.first_held())
        return self._run(round_, chunk)

    @abstractmethod
    def _run(self, round_: int, chunk: int) -> bool: ...

    def _decode(self, frames: Iterator[Frames], clips: Mapping[int, list[Clip]]) -> dict[int, list[Frames]] | None:
        """The next frames, of clips by lane, in the order in which they were asked for; None when the step is left
        out because a rank cannot read its own."""
        return self._faults.read(lambda: {number: [self._reporter.wait(frames) for _ in of_lane]
                                          for number, of_lane in clips.items()})

    def _active(self, chunk: int) -> list[str]:
        """Trained roles that have something to compute in a chunk."""
        return active_roles(self._cfg, chunk * self._plan.chunk_frames, self._plan.chunk_frames)

    def _add(self, result: StepResult, round_: int, chunk: int) -> None:
        n_frames = self._plan.rounds[round_].n_clips(chunk) * self._plan.chunk_frames
        self._reporter.add(result, self._active(chunk), n_frames)


class WholeSteps(Steps):
    """Every rank runs all roles on lanes of its own."""

    def __init__(self, setting: Setting, faults: FaultHandler, plan: Epoch, now: Phase, start: tuple[int, int]) -> None:
        super().__init__(setting, faults, plan, now)
        n_back = look_back(self._cfg, start[1] * plan.chunk_frames)
        requests = plan.requests(self._state.my_lanes, start, n_back)
        self._frames = stream(self._source, requests, self._cfg.data.workers)

    def _run(self, round_: int, chunk: int) -> bool:
        this, state, now = self._plan.rounds[round_], self._state, self._now
        mine = {number: this.lanes[number] for number in state.my_lanes if this.is_active(number, chunk)}
        decoded = self._decode(self._frames, mine)
        if decoded is None:
            return False
        work = []
        for number, frames_of in decoded.items():
            lane = state.lane(number, chunk)
            self._faults.step_input.lanes[number] = LaneInput(mine[number], frames_of, lane.state())
            work.append(LaneWork(lane, lane.feed(frames_of), len(frames_of) / this.n_clips(chunk)))
        assert isinstance(state.roles, Roles)
        result = train_step(state.roles, work, self._active(chunk), now.n_frames_bp,
                            detach_coarse=not now.train_all_scales, may_update=self._faults.may_update)
        if result.updated:
            state.after_update()
            self._add(result, round_, chunk)
        return result.updated


class PlacedSteps(Steps):
    """The roles of a step lie on several ranks; this one runs its part of each step's plan."""

    def __init__(self, setting: Setting, faults: FaultHandler, plan: Epoch, now: Phase, start: tuple[int, int],
                 pipeline: Pipeline) -> None:
        super().__init__(setting, faults, plan, now)
        self._pipeline = pipeline
        # Looked at twice, far ahead for the frames to decode and by the steps: each plan is made once.
        self._placed_steps, ahead = tee(self._walk(start))
        requests = (request for step in ahead for request in step.requests)
        self._frames = stream(self._source, requests, self._cfg.data.workers)

    def _walk(self, start: tuple[int, int]) -> Iterator[PlacedStep]:
        pictured = self._reporter.sample_is_due if self._grid.pipeline == 0 else lambda _: False
        epoch = PlacedEpoch(self._plan, self._now, self._pipeline.planner, self._grid.slot, self._state.my_lanes,
                            pictured)
        return epoch.steps(start, self._state.position.step + 1, self._state.flow_ready)

    def _run(self, round_: int, chunk: int) -> bool:
        step, this, state = next(self._placed_steps), self._plan.rounds[round_], self._state
        assert (step.round, step.chunk) == (round_, chunk), "steps are run in the order of the epoch"
        mine = {number: this.lanes[number] for number, reads in step.reads.items() if reads != Reads()}
        decoded = self._decode(self._frames, mine)
        if decoded is None:
            return False
        parts = [self._part(step, lane, number, decoded.get(number, [])) for lane, number in enumerate(state.my_lanes)]
        shown = None if step.shown is None else parts[step.shown]
        pictured = shown.buffer.chunk(shown.n_frames) if shown is not None and self._grid.is_first else None
        outcome = self._pipeline.step(state.position.step + 1, step.plan, step.shape, parts, self._active(chunk),
                                      step.shown, self._faults.may_update)
        if outcome.updated:
            state.after_update()
            made = None if pictured is None else unpack_shown(pictured, outcome.shown)
            self._add(StepResult(outcome.losses, made, squared_norms=outcome.squared_norms), round_, chunk)
        return outcome.updated

    def _part(self, step: PlacedStep, lane: int, number: int, frames: list[Frames]) -> LanePart | None:
        """A lane's part in a step, None for one that rests: `lane` counts in this pipeline, `number` in the run."""
        n_frames, this = step.shape.lanes[lane].n_frames, self._plan.rounds[step.round]
        if not n_frames:
            return None
        clips = this.lanes[number]
        width, height = self._source.size_of(clips[0])
        buffer = self._state.clip_buffer(number, step.chunk, FrameSize(len(clips), height, width))
        self._faults.step_input.lanes[number] = LaneInput(clips, frames, buffer.state())
        if frames:
            self._pipeline.feed(number, step.reads[number], frames)
        return LanePart(buffer, n_frames, len(clips) / this.n_clips(step.chunk))
