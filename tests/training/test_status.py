"""`status.json` says what is nearest to the root of a failure, in whatever order the ranks fail."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from vid2vid_dist.errors import LostRankError
from vid2vid_dist.training.status import Status

ILL = ValueError("the discriminator is ill")
SILENT = LostRankError("step 3, rank 0: image of rank 2: Timed out waiting 15000ms for recv operation to complete")
BROKEN = LostRankError("step 3, rank 1: flow of rank 0: Connection closed by peer [127.0.0.1]:4711")


@pytest.mark.parametrize("order", list(itertools.permutations([(0, SILENT), (1, BROKEN), (2, ILL)])), ids=str)
def test_nearest_to_the_root_is_told(tmp_path: Path, order: list[tuple[int, Exception]]) -> None:
    for rank, error in order:
        Status(tmp_path, rank, 0).write_failure(error, None)
    told = json.loads((tmp_path / "status.json").read_text())
    assert (told["cause"], told["why"]) == ("error", f"rank 2: {ILL}")


@pytest.mark.parametrize("order", list(itertools.permutations([(0, SILENT), (1, BROKEN)])), ids=str)
def test_silence_is_nearer_than_a_broken_connection(tmp_path: Path, order: list[tuple[int, Exception]]) -> None:
    """A rank that has waited in vain leaves, and breaks the connections of the others."""
    for rank, error in order:
        Status(tmp_path, rank, 0).write_failure(error, None, finding="no heartbeat of rank 2")
    told = json.loads((tmp_path / "status.json").read_text())
    assert (told["cause"], told["why"]) == ("lost rank", f"no heartbeat of rank 2; {SILENT}")


def test_of_equal_ones_the_first_is_told(tmp_path: Path) -> None:
    for rank in (3, 0):
        Status(tmp_path, rank, 0).write_failure(ValueError(f"bad input of rank {rank}"), None)
    assert json.loads((tmp_path / "status.json").read_text())["why"] == "rank 3: bad input of rank 3"
