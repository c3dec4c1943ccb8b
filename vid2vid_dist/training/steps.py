"""The optimiser steps of an epoch on this rank: decoding ahead, the clips' state, the step itself, what is reported."""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import tee

from torch import Tensor

from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.decoding import Decoders
from vid2vid_dist.engine.plan.tasks import LaneChunk, NeededFrames
from vid2vid_dist.engine.plan.tensors import FrameSize, reference
from vid2vid_dist.engine.roles.kinds import shown_kinds
from vid2vid_dist.engine.run.pipeline import Inputs
from vid2vid_dist.engine.run.tensor_store import LanePart, Shown
from vid2vid_dist.engine.run.updates import Verdict
from vid2vid_dist.errors import UserError
from vid2vid_dist.training.curriculum import Phase
from vid2vid_dist.training.epoch import Epoch
from vid2vid_dist.training.faults import FaultHandler, LaneInput, StepInput
from vid2vid_dist.training.planned_steps import EpochPlans, PlannedStep
from vid2vid_dist.training.reporter import Reporter
from vid2vid_dist.training.state import TrainingState


@dataclass(frozen=True)
class Ready:
    """A step and what it reads of clips, by lane of the run: as decoded, and on the device."""

    step: PlannedStep
    frames: dict[int, list[Frames]]
    inputs: dict[int, Inputs]


class Steps:
    """The steps of an epoch, to be run in the order of `Epoch.steps`; all ranks run them together.

    Frames are decoded ahead, until the object is dropped, and copied to a GPU while it works on the step before.
    """

    def __init__(self, decoders: Decoders, state: TrainingState, reporter: Reporter, faults: FaultHandler, epoch: Epoch,
                 now: Phase, start: tuple[int, int]) -> None:
        """From (round, chunk) `start` on; `faults` decides over their updates."""
        self._state, self._reporter, self._faults, self._epoch, grid = state, reporter, faults, epoch, state.grid
        self._now = now
        pictured = reporter.sample_is_due if grid.pipeline == 0 else lambda _: False
        plans = EpochPlans(epoch, now, state.pipeline.planner, grid.rank_in_pipeline, state.my_lanes, pictured)
        # Looked at twice, far ahead for the frames to decode and by the steps: each plan is made once.
        self._planned, ahead = tee(plans.steps(start, state.position.step + 1, state.flow_ready))
        requests = (request for step in ahead for request in step.requests())
        self._frames = decoders.stream(requests)
        self._ahead: Future[Ready] | None = None

    def run(self, round_: int, chunk: int) -> bool:
        """One optimiser step: the same chunk of every active lane. False when it is left out: the clips of its round
        are given up, on all ranks."""
        state = self._state
        self._faults.step_input = StepInput(state.position, modules=state.first_held())
        if self._ahead is None:
            self._look_ahead()
        assert self._ahead is not None, "no more steps than the epoch has"
        ready = self._faults.read(self._ahead.result)
        self._ahead = None
        if ready is None:
            return False
        step = ready.step
        assert (step.round, step.chunk) == (round_, chunk), "steps are run in the order of the epoch"
        parts = [self._part(ready, lane, number) for lane, number in enumerate(state.my_lanes)]
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
                                     self._may_update)
        if result.updated:
            state.after_update()
            self._reporter.add(result, active, self._epoch.rounds[round_].n_clips(chunk) * chunk_frames, pictured)
        return result.updated

    def _may_update(self, values: Mapping[str, Tensor]) -> Verdict:
        """The step's verdict; a GPU that works on the step leaves time for the next one's frames before it is read."""
        verdict = self._faults.may_update(values)

        def agreed() -> bool:
            if self._state.pipeline.upload.is_ahead:
                self._look_ahead()
            return verdict.agreed()

        return replace(verdict, agreed=agreed)

    def _look_ahead(self) -> None:
        """Get the next step ready, if there is one; what cannot be read is told when that step begins."""
        step = next(self._planned, None)
        if step is None:
            return
        self._ahead = Future()
        wanted = {number: needed for number, needed in step.needed.items() if needed != NeededFrames()}
        clips, encode = self._epoch.rounds[step.round].lanes, self._state.pipeline.encode
        try:  # in the order in which they were asked for
            frames = {number: [self._reporter.wait(self._frames) for _ in clips[number]] for number in wanted}
            inputs = {number: encode(needed, frames[number]) for number, needed in wanted.items()}
        except UserError as error:
            self._ahead.set_exception(error)
        else:
            self._ahead.set_result(Ready(step, frames, inputs))

    def _part(self, ready: Ready, lane: int, number: int) -> LanePart | None:
        """A lane's part in a step, None for one that rests: `lane` counts in this pipeline, `number` in the run."""
        step, state = ready.step, self._state
        n_frames, this = step.shape.lanes[lane].n_frames, self._epoch.rounds[step.round]
        if not n_frames:
            return None
        clips = this.lanes[number]
        width, height = clips[0].geometry.size
        clip = state.clip(number, step.chunk, FrameSize(len(clips), height, width))
        self._faults.step_input.lanes[number] = LaneInput(clips, ready.frames.get(number, []), clip.state())
        if number in ready.inputs:
            state.pipeline.feed(number, step.needed[number], ready.inputs[number])
        return LanePart(clip, n_frames, len(clips) / this.n_clips(step.chunk))
