"""A rank that stops in the middle of a save: the others do not wait for it for ever, and for a slow one they do."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event, Timer

import pytest

from vid2vid_dist.engine.run.grid import solo_grid
from vid2vid_dist.engine.run.streams import Mark
from vid2vid_dist.errors import LostRankError
from vid2vid_dist.training.saver import Saver


class SlowMark(Mark):
    """Is there when it is told."""

    def __init__(self) -> None:
        self.told = Event()

    def wait(self) -> None:
        self.told.wait()


@pytest.fixture
def slow() -> SlowMark:
    return SlowMark()


def saver_of(folder: Path, slow: SlowMark) -> Saver:
    saver = Saver(folder, replace(solo_grid(), timeout=timedelta(seconds=0.5)), keep_last=1, keep_every_steps=0)
    saver.begin(3, {}, slow, 0.0)
    return saver


def test_a_rank_without_a_heartbeat_is_lost(tmp_path: Path, slow: SlowMark) -> None:
    with pytest.raises(LostRankError, match=r"step 3, rank 0: .* of rank 1: timed out"):
        saver_of(tmp_path, slow).finish(lambda: {0: "same", 1: "same"})
    slow.told.set()


def test_a_slow_one_is_waited_for(tmp_path: Path, slow: SlowMark) -> None:
    beats: Callable[[], int] = itertools.count().__next__
    Timer(3, slow.told.set).start()
    saved = saver_of(tmp_path, slow).finish(lambda: {0: "same", 1: beats()})
    assert saved is not None
    assert saved.step == 3
