"""Who is to blame when nothing goes on."""

import json
import re
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.training import watchdog
from vid2vid_dist.training.watchdog import Sign, Watchdog, name_laggard


def sign(rank: int, step: int = 7, progress: int = 20, waits: bool = True) -> Sign:
    return Sign(rank, 3, step, progress, f"task of {rank}", "engine/tensor_store.py:9 wait", waits)


@pytest.mark.parametrize(("signs", "silent", "words"), [
    ([sign(0), sign(1), sign(2)], [1], r"no heartbeat of rank 1 \(step 7, task of 1: waits .*its node is gone"),
    ([sign(0), sign(1)], [3], r"no heartbeat of rank 3: "),
    ([sign(0), sign(1, progress=30, waits=False), sign(2)], [], r"wait for rank 1: step 7, task of 1: works in "),
    ([sign(0), sign(1), sign(2, step=6)], [], r"wait for rank 2: step 6"),
    ([sign(0), sign(1), sign(2, progress=19)], [], r"wait for rank 2: step 7"),
])
def test_laggard_is_named(signs: list[Sign], silent: list[int], words: str) -> None:
    assert re.search(words, name_laggard({each.rank: each for each in signs}, silent))


def test_a_stuck_rank_leaves_its_stacks_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    timer = Timer()
    with Watchdog(tmp_path, 0, 1, patience=0.4, timer=timer) as dog:
        dog.step = 5
        with timer.span("frame 3", "frame/0"):
            end = time.monotonic() + 20
            while not dog.finding and time.monotonic() < end:
                time.sleep(0.05)
        said = [record.message for record in caplog.records]
        while json.loads((tmp_path / "watch/rank_00000.json").read_text())["step"] == 5 and time.monotonic() < end:
            dog.step = 6
            time.sleep(0.05)
    assert len(said) == 1
    assert "the others wait for rank 0: step 5, frame 3: works in " in said[0]
    assert "test_a_stuck_rank_leaves_its_stacks" in (tmp_path / "watch/rank_00000.stacks.txt").read_text()


def test_who_looks_for_the_silent_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that wait for the same one look at the same time; rank 0 begins while rank 1 writes its stacks."""
    dump, begun = watchdog.faulthandler.dump_traceback, threading.Event()

    def slow_dump(file: IO[str], all_threads: bool) -> None:
        if "rank_00001" in file.name:
            begun.set()
            time.sleep(0.3)
        else:
            assert begun.wait(10)
        dump(file, all_threads)

    monkeypatch.setattr(watchdog.faulthandler, "dump_traceback", slow_dump)
    with Watchdog(tmp_path, 0, 3, 0.4, None) as first, Watchdog(tmp_path, 1, 3, 0.4, None) as second:
        end = time.monotonic() + 20
        while not (first.finding and second.finding) and time.monotonic() < end:
            time.sleep(0.05)
    assert [dog.finding.split(":")[0] for dog in (first, second)] == 2 * ["no heartbeat of rank 2"]


def test_a_rank_that_goes_on_is_left_in_peace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Watchdog(tmp_path, 0, 1, patience=0.6, timer=None) as dog:
        for step in range(10):
            dog.step = step
            time.sleep(0.1)
    assert (dog.finding, caplog.records) == ("", [])
    assert not list((tmp_path / "watch").glob("*.stacks.txt"))
