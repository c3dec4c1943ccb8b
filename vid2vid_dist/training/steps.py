"""The optimiser steps of an epoch on this rank: decoding ahead, the clips' state, the step itself, what is reported."""

from __future__ import annotations

from itertools import tee

from vid2vid_dist.data.clips import ClipSource, Frames, stream
from vid2vid_dist.engine.plan.tasks import LaneChunk, NeededFrames
from vid2vid_dist.engine.plan.tensors import FrameSize, reference
from vid2vid_dist.engine.roles.kinds import shown_kinds
from vid2vid_dist.engine.run.tensor_store import LanePart, Shown
from vid2vid_dist.network_input import FrameLoader
from vid2vid_dist.training.curriculum import Phase
from vid2vid_dist.training.epoch import Epoch
from vid2vid_dist.training.faults import FaultHandler, LaneInput, StepInput
from vid2vid_dist.training.planned_steps import EpochPlans, PlannedStep
from vid2vid_dist.training.reporter import Reporter
from vid2vid_dist.training.state import TrainingState


class Steps:
    """The steps of an epoch, to be run in the order of `Epoch.steps`; all ranks run them together.

    Frames are decoded ahead, until the object is dropped.
    """

    def __init__(self, source: ClipSource, state: TrainingState, reporter: Reporter, faults: FaultHandler, epoch: Epoch,
                 now: Phase, start: tuple[int, int]) -> None:
        """From (round, chunk) `start` on; `faults` decides over their updates."""
        self._state, self._reporter, self._faults, self._epoch, grid = state, reporter, faults, epoch, state.grid
        self._now = now
        pictured = reporter.sample_is_due if grid.pipeline == 0 else lambda _: False
        plans = EpochPlans(epoch, now, state.pipeline.planner, grid.rank_in_pipeline, state.my_lanes, pictured)
        # Looked at twice, far ahead for the frames to decode and by the steps: each plan is made once.
        self._planned, ahead = tee(plans.steps(start, state.position.step + 1, state.flow_ready))
        requests = (request for step in ahead for request in step.requests)
        self._frames = stream(FrameLoader(source), requests, state.cfg.data.workers)

    def run(self, round_: int, chunk: int) -> bool:
        """One optimiser step: the same chunk of every active lane. False when it is left out: the clips of its round
        are given up, on all ranks."""
        state, step = self._state, next(self._planned)
        assert (step.round, step.chunk) == (round_, chunk), "steps are run in the order of the epoch"
        self._faults.step_input = StepInput(state.position, modules=state.first_held())
        decoded = self._faults.read(lambda: self._decode(step))
        if decoded is None:
            return False
        parts = [self._part(step, lane, number, decoded.get(number, [])) for lane, number in enumerate(state.my_lanes)]
        shown, pictured = None, None
        if step.shown is not None:
            shown = Shown(step.shown, (*shown_kinds(state.cfg), reference()))
            part = parts[step.shown]
            assert part is not None
            pictured = part.clip.seen(part.n_frames) if state.grid.is_first else None
        chunk_frames = self._epoch.chunk_frames
        active = state.specs.active(LaneChunk(chunk * chunk_frames, chunk_frames))
        if state.position.step <= state.cfg.optim.warmup_steps:
            state.set_rates(self._now)
        result = state.pipeline.step(state.position.step + 1, step.plan, step.shape, parts, active, shown,
                                     self._faults.may_update)
        if result.updated:
            state.after_update()
            self._reporter.add(result, active, self._epoch.rounds[round_].n_clips(chunk) * chunk_frames, pictured)
        return result.updated

    def _decode(self, step: PlannedStep) -> dict[int, list[Frames]]:
        """The next frames, of clips by lane, in the order in which they were asked for."""
        clips = {number: self._epoch.rounds[step.round].lanes[number] for number, needed in step.needed.items()
                 if needed != NeededFrames()}
        return {number: [self._reporter.wait(self._frames) for _ in of_lane] for number, of_lane in clips.items()}

    def _part(self, step: PlannedStep, lane: int, number: int, frames: list[Frames]) -> LanePart | None:
        """A lane's part in a step, None for one that rests: `lane` counts in this pipeline, `number` in the run."""
        n_frames, this, state = step.shape.lanes[lane].n_frames, self._epoch.rounds[step.round], self._state
        if not n_frames:
            return None
        clips = this.lanes[number]
        width, height = clips[0].geometry.size
        clip = state.clip(number, step.chunk, FrameSize(len(clips), height, width))
        self._faults.step_input.lanes[number] = LaneInput(clips, frames, clip.state())
        if frames:
            state.pipeline.feed(number, step.needed[number], frames)
        return LanePart(clip, n_frames, len(clips) / this.n_clips(step.chunk))
