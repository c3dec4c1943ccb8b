"""The clips of one epoch, laid out over lanes: a pure function of the configuration, so every rank computes all of it.

A round is a set of clips that run together, one or more per lane, from their first chunk to their last. Lanes
are numbered over the whole world. The last round of an epoch may have fewer clips than lanes, and a short
clip ends before its round does: such lanes rest, and the step averages over the clips that are there. Which
clips an epoch holds therefore never depends on the number of ranks.

What is computed at once, on arrays, is how many chunks each clip has. Rounds and clips are put together when asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from vid2vid_dist.data.clips import Clip, ClipSource
from vid2vid_dist.data.lazy import LazySequence
from vid2vid_dist.training.checkpoint import Position
from vid2vid_dist.training.curriculum import Phase

T = TypeVar("T")
KEPT = 512  # rounds, of those that were asked for last: decoding is ahead by twice data.workers at most


class Made(LazySequence[T]):
    """Items that a function makes. kept: how many of those that were asked for last; None = all."""

    def __init__(self, count: int, make: Callable[[int], T], kept: int | None = None) -> None:
        super().__init__(count)
        self._cached = lru_cache(kept)(make)

    def make(self, number: int) -> T:
        return self._cached(number)


@dataclass(frozen=True)
class Round:
    """Clips that run together; `lanes[i]` are the clips of lane i, empty for a lane that rests; `counts` and `chunks`:
    how many each lane has, and the chunks that it makes of them: clips that are normalised together end with the
    shortest.

    A lane's clips, which only ranks of its pipeline ask for, raise `UserError` where a first frame says how its clip
    is cut, and cannot be read.
    """

    lanes: Sequence[list[Clip]]
    counts: list[int]
    chunks: list[int]

    @property
    def n_chunks(self) -> int:
        return max(self.chunks)

    def is_active(self, lane: int, chunk: int) -> bool:
        return chunk < self.chunks[lane]

    def n_clips(self, chunk: int) -> int:
        """Clips that take part in the step of a chunk, all ranks together."""
        return sum(count for count, chunks in zip(self.counts, self.chunks, strict=True) if chunk < chunks)


@dataclass(frozen=True)
class Epoch:
    """All rounds of an epoch. chunks: (rounds, lanes); n_full: rounds in which no lane lacks a clip."""

    rounds: Sequence[Round]
    chunks: np.ndarray
    n_full: int
    chunk_frames: int
    n_past: int  # tG - 1 given frames before the first generated one

    @property
    def n_steps(self) -> int:
        return int(self.chunks.max(axis=1).sum())

    def steps(self, start: tuple[int, int] = (0, 0)) -> Iterator[tuple[int, int]]:
        """(round, chunk) of every optimiser step, from `start` on."""
        for r in range(start[0], len(self.rounds)):
            for chunk in range(start[1] if r == start[0] else 0, self.rounds[r].n_chunks):
                yield r, chunk

    def fullest_round(self) -> int:
        """The round whose steps take most memory: most clips, then most chunks."""
        return int(self.chunks[: max(1, self.n_full)].max(axis=1).argmax())


def plan_epoch(source: ClipSource, epoch: int, phase: Phase, n_lanes: int, batch_size: int, n_past: int) -> Epoch:
    """Lay the clips of an epoch out over `n_lanes` lanes of `batch_size` clips each."""
    order = np.array(source.order(epoch))
    per_round = n_lanes * batch_size
    n_rounds = -(-len(order) // per_round)
    nobody = np.iinfo(np.int32).max
    of_clips = np.full(n_rounds * per_round, nobody, np.int32)
    of_clips[: len(order)] = source.n_chunks(epoch, phase.n_frames_total, phase.chunk_frames)[order]
    # Dealt out one by one: a last round that is not full keeps as many lanes busy as it can.
    chunks = of_clips.reshape(n_rounds, batch_size, n_lanes).min(axis=1)
    chunks[chunks == nobody] = 0

    def clip(number: int) -> Clip:
        return source.clip(epoch, number, phase.n_frames_total, phase.chunk_frames)

    def round_(number: int) -> Round:
        clips = order[number * per_round : (number + 1) * per_round].tolist()
        numbers = [clips[lane::n_lanes] for lane in range(n_lanes)]
        lanes = Made(n_lanes, lambda lane: [clip(number) for number in numbers[lane]])
        return Round(lanes, [len(of_lane) for of_lane in numbers], chunks[number].tolist())

    return Epoch(Made(n_rounds, round_, KEPT), chunks, len(order) // per_round, phase.chunk_frames, n_past)


def after(plan: Epoch, done: Position, whole_round: bool = False) -> Position:
    """The position that follows the step at `done` (which carries the number of steps done), or its round."""
    if not whole_round and done.chunk + 1 < plan.rounds[done.round].n_chunks:
        return Position(done.step, done.epoch, done.round, done.chunk + 1)
    if done.round + 1 < len(plan.rounds):
        return Position(done.step, done.epoch, done.round + 1, 0)
    return Position(done.step, done.epoch + 1, 0, 0)
