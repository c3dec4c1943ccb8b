"""Who may say what on the console."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

SPEAK = """
import logging
from vid2vid_dist.monitor.logs import setup_logging
setup_logging({rank})
for name in ("vid2vid_dist.training.trainer", "distutils"):
    logging.getLogger(name).info("%s informs", name)
    logging.getLogger(name).warning("%s warns", name)
"""


@pytest.mark.parametrize(("rank", "lines"), [
    (0, ["vid2vid_dist.training.trainer informs", "vid2vid_dist.training.trainer warns", "distutils warns"]),
    (3, ["vid2vid_dist.training.trainer warns", "distutils warns"]),
])
def test_rank_0_informs_and_everybody_warns(rank: int, lines: list[str]) -> None:
    """In a process of its own: the test runner has handlers of its own on the root logger."""
    done = subprocess.run([sys.executable, "-c", SPEAK.format(rank=rank)], cwd=ROOT, capture_output=True,
                          text=True, timeout=60, check=True)
    assert [line.partition(f" [rank {rank}] ")[2] for line in done.stdout.splitlines()] == lines
