"""What a checkpoint in the middle of a round must agree with, so that the same clips go on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vid2vid_dist.engine.run.clip import clip_files, saved_n_seen
from vid2vid_dist.errors import UserError
from vid2vid_dist.training.checkpoint import Position, way_on
from vid2vid_dist.training.epoch import Epoch
from vid2vid_dist.untrusted import reading


def require_start(folder: Path, at: Position, plan: Epoch, lanes: Iterable[int], chunk_frames: int) -> None:
    """Raise `UserError` if an epoch has no such place as a position, or if a clip that goes on there is not saved.

    `lanes`: those of this rank. `chunk_frames`: frames per chunk.
    """
    if at.round >= len(plan.rounds) or at.chunk >= plan.rounds[at.round].n_chunks:
        raise UserError(f"{folder / 'state.json'}: position (round {at.round}, chunk {at.chunk}) is beyond the "
                        f"{len(plan.rounds)} rounds of epoch {at.epoch}: {way_on(folder)}")
    n_seen = at.chunk * chunk_frames
    for number in lanes if at.chunk else ():
        if not plan.rounds[at.round].is_active(number, at.chunk):
            continue
        with reading(folder / "lanes", way_on(folder)):
            files = clip_files(folder / "lanes", number)
            found = set(map(saved_n_seen, files))
        if found != {n_seen}:
            raise UserError(f"{folder / 'lanes'}: the clip of lane {number} has {n_seen} frames behind it, its "
                            f"{len(files)} files say {sorted(found)}: {way_on(folder)}")
