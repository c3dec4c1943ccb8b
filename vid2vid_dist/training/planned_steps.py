"""The steps of an epoch for one rank, looked at ahead of training: plans, and the frames to decode."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from vid2vid_dist.data.clips import Request
from vid2vid_dist.engine.plan.planner import Planner
from vid2vid_dist.engine.plan.schedule import Plan, needed_frames
from vid2vid_dist.engine.plan.tasks import LaneChunk, NeededFrames, StepShape
from vid2vid_dist.models.temporal import frames_kept
from vid2vid_dist.training.curriculum import Phase
from vid2vid_dist.training.epoch import Epoch

REST = LaneChunk(0, 0)


@dataclass(frozen=True)
class PlannedStep:
    """A step of a pipeline. `needed`: frames to decode for this rank, by lane of the run, beyond those that it has;
    `shown`: the lane (of the pipeline) that pictures are made of, None for none; `requests` says what to decode, in the
    order of the lanes, and raises `UserError` where a clip cannot be cut (`Round`)."""

    round: int
    chunk: int
    shape: StepShape
    plan: Plan
    needed: dict[int, NeededFrames]
    shown: int | None
    requests: Callable[[], list[Request]]


@dataclass
class EpochPlans:
    """Walks through an epoch. `lanes`: of this pipeline; `slot`: of this rank in it; `sample_is_due`: whether
    pictures are made of a step of this pipeline."""

    epoch: Epoch
    now: Phase
    planner: Planner
    slot: int
    lanes: range
    sample_is_due: Callable[[int], bool]

    def steps(self, start: tuple[int, int], first_step: int, flow_ready: bool) -> Iterator[PlannedStep]:
        """From `start` on, which is step `first_step` of the run.

        Where ranks share clips, reference flow of a clip's next chunk is computed a step ahead; `flow_ready`: so it was
        for the first step.
        """
        specs, placed = self.planner.specs, self.planner.placed
        has = dict.fromkeys(self.lanes, NeededFrames())
        for step, (round_, chunk) in enumerate(self.epoch.steps(start), first_step):
            if chunk == 0:
                has, flow_ready = dict.fromkeys(self.lanes, NeededFrames()), False
            ahead = placed.layout.n_slots > 1 and chunk + 1 < self.epoch.rounds[round_].n_chunks
            shape = StepShape(self._chunks(round_, chunk), self._chunks(round_, chunk + 1) if ahead else (),
                              flow_ready=flow_ready, n_frames_bp=self.now.n_frames_bp,
                              train_all_scales=self.now.train_all_scales, in_flight=placed.in_flight)
            flow_ready = ahead
            plan = self.planner.next(shape)
            running = [lane for lane, part in enumerate(shape.lanes) if part.n_frames]
            shown = running[-1] if running and self.sample_is_due(step) else None
            needed = {}
            for lane, (number, part) in enumerate(zip(self.lanes, shape.lanes, strict=True)):
                if not part.n_frames:
                    continue
                wanted = needed_frames(specs, plan, self.slot, lane, part)
                if lane == shown and self.slot == 0:
                    pictured = frozenset(range(part.n_seen, part.n_seen + part.n_frames))
                    wanted |= NeededFrames(pictured, pictured)
                needed[number] = wanted - has[number]
                n_seen = part.n_seen + part.n_frames
                n_kept = frames_kept(specs.cfg.discriminator, n_seen)
                has[number] = (has[number] | wanted).kept(n_seen, self.epoch.n_past, n_kept)
            yield PlannedStep(round_, chunk, shape, plan, needed, shown, partial(self._requests, round_, needed))

    def _chunks(self, round_: int, chunk: int) -> tuple[LaneChunk, ...]:
        n_frames = self.epoch.chunk_frames
        return tuple(LaneChunk(chunk * n_frames, n_frames) if self.epoch.rounds[round_].is_active(lane, chunk) else REST
                     for lane in self.lanes)

    def _requests(self, round_: int, needed: dict[int, NeededFrames]) -> list[Request]:
        """What to decode for a step, in the order of its lanes; a clip counts its given frames, too."""
        def numbers(frames: frozenset[int]) -> list[int]:
            return [i + self.epoch.n_past for i in sorted(frames)]

        def pairs(wanted: NeededFrames) -> list[tuple[int, int]]:
            return [(i + self.epoch.n_past, gap) for i, gap in sorted(wanted.flows)]

        return [Request(clip, numbers(wanted.labels), numbers(wanted.real), pairs(wanted))
                for lane, wanted in needed.items() if wanted != NeededFrames()
                for clip in self.epoch.rounds[round_].lanes[lane]]
