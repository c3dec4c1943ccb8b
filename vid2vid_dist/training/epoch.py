"""The clips of one epoch, laid out over lanes: a pure function of the configuration, so every rank computes all of it.

A round is a set of clips that run together, one or more per lane, from their first chunk to their last. Lanes
are numbered over the whole world. The last round of an epoch may have fewer clips than lanes, and a short
clip ends before its round does: such lanes rest, and the step averages over the clips that are there. Which
clips an epoch holds therefore never depends on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vid2vid_dist.data.clips import Clip, ClipSource
from vid2vid_dist.training.checkpoint import Position
from vid2vid_dist.training.curriculum import Phase


@dataclass(frozen=True)
class Round:
    """Clips that run together; `lanes[i]` are the clips of lane i, empty for a lane that rests."""

    lanes: list[list[Clip]]

    @property
    def n_chunks(self) -> int:
        return max(self.lane_chunks(lane) for lane in range(len(self.lanes)))

    def lane_chunks(self, lane: int) -> int:
        """Chunks that a lane makes: clips that are normalised together end with the shortest of them."""
        return min((clip.n_chunks for clip in self.lanes[lane]), default=0)

    def is_active(self, lane: int, chunk: int) -> bool:
        return chunk < self.lane_chunks(lane)

    def n_clips(self, chunk: int) -> int:
        """Clips that take part in the step of a chunk, all ranks together."""
        return sum(len(clips) for lane, clips in enumerate(self.lanes) if self.is_active(lane, chunk))


@dataclass(frozen=True)
class Epoch:
    """All rounds of an epoch."""

    rounds: list[Round]
    chunk_frames: int
    n_past: int  # tG - 1 given frames before the first generated one

    @property
    def n_steps(self) -> int:
        return sum(r.n_chunks for r in self.rounds)

    def steps(self, start: tuple[int, int] = (0, 0)) -> Iterator[tuple[int, int]]:
        """(round, chunk) of every optimiser step, from `start` on."""
        for r in range(start[0], len(self.rounds)):
            for chunk in range(start[1] if r == start[0] else 0, self.rounds[r].n_chunks):
                yield r, chunk

    def fullest_round(self) -> int:
        """The round whose steps take most memory: most clips, then most chunks."""
        return max(range(len(self.rounds)), key=lambda r: (self.rounds[r].n_clips(0), self.rounds[r].n_chunks))


def plan_epoch(source: ClipSource, epoch: int, phase: Phase, n_lanes: int, batch_size: int, n_past: int) -> Epoch:
    """Lay the clips of an epoch out over `n_lanes` lanes of `batch_size` clips each."""
    numbers = source.order(epoch)
    clips = [source.clip(epoch, number, phase.n_frames_total, phase.chunk_frames) for number in numbers]
    per_round = n_lanes * batch_size
    rounds = []
    for start in range(0, len(clips), per_round):
        of_round = clips[start : start + per_round]
        # Dealt out one by one: a last round that is not full keeps as many lanes busy as it can.
        rounds.append(Round([of_round[lane::n_lanes] for lane in range(n_lanes)]))
    return Epoch(rounds, phase.chunk_frames, n_past)


def after(plan: Epoch, done: Position, whole_round: bool = False) -> Position:
    """The position that follows the step at `done` (which carries the number of steps done), or its round."""
    if not whole_round and done.chunk + 1 < plan.rounds[done.round].n_chunks:
        return Position(done.step, done.epoch, done.round, done.chunk + 1)
    if done.round + 1 < len(plan.rounds):
        return Position(done.step, done.epoch, done.round + 1, 0)
    return Position(done.step, done.epoch + 1, 0, 0)
