"""Which frames a clip takes, and what else is drawn: pure functions of (seed, epoch, clip number) or step.

Nothing here keeps state, so the run is the same on any number of ranks and workers and resumes
anywhere. Random numbers are drawn apart from the arithmetic that uses them.
"""

from dataclasses import dataclass

import numpy as np

_ORDER, _CLIP, _FRAME, _STEP = 0, 1, 2, 3


def clip_rng(seed: int, epoch: int, number: int) -> np.random.Generator:
    """The random numbers of clip `number` in `epoch`."""
    return _rng(seed, _CLIP, epoch, number)


def frame_rng(seed: int, epoch: int, number: int, frame: int) -> np.random.Generator:
    """The random numbers of one frame of clip `number` in `epoch`; `frame` counts in its video."""
    return _rng(seed, _FRAME, epoch, number, frame)


def step_rng(seed: int, step: int, lane: int) -> np.random.Generator:
    """The random numbers of the clips of a lane of the run in one step."""
    return _rng(seed, _STEP, step, lane)


def epoch_order(seed: int, epoch: int, n: int) -> list[int]:
    """A permutation of 0..n-1: the order of an epoch's clips."""
    return _rng(seed, _ORDER, epoch).permutation(n).tolist()


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def pick(u: float, n: int) -> int:
    """The integer in 0..n-1 that the uniform number `u` in [0, 1) stands for."""
    return int(u * n)


@dataclass(frozen=True)
class Window:
    """The frames start, start + t_step, ... of a video, cut into chunks (counts in frames)."""

    start: int
    t_step: int
    n_frames: int
    chunk_frames: int
    n_chunks: int


def window(length: int, n_frames_total: int, chunk_frames: int, n_frames_G: int, max_t_step: int, u_step: float,
           u_start: float, number: int | None = None) -> Window:
    """The window of a video of `length` frames (spec: training_schedule 2, "Clip length").

    The clip generates at most `n_frames_total` frames in whole chunks of at most `chunk_frames`, and
    reads n_frames_G - 1 frames more before the first. `u_step` and `u_start` are uniform in [0, 1).
    With a `number`, the clip's, the start is not drawn: the clips of an epoch begin at one place after another.
    """
    generated = min(n_frames_total, length - n_frames_G + 1)
    assert generated > 0, f"a video of {length} frames is shorter than n_frames_G={n_frames_G}"
    chunk_frames = min(generated, chunk_frames)
    n_chunks = generated // chunk_frames
    n_frames = chunk_frames * n_chunks + n_frames_G - 1
    largest_step = min(max_t_step, (length - 1) // (n_frames - 1))
    t_step = 1 + pick(u_step, largest_step)
    n_starts = max(1, length - (n_frames - 1) * t_step)
    start = pick(u_start, n_starts) if number is None else number % n_starts
    return Window(start, t_step, n_frames, chunk_frames, n_chunks)
