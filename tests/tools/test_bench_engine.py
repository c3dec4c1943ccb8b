"""The engine's benchmark runs and reports; what it measures is for idle machines."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.bench_engine import periods
from vid2vid_dist.engine.run.grid import solo_grid


def test_a_period_is_the_median_after_the_first_step() -> None:
    pauses = iter((0.5, 0.02, 0.5, 0.02))
    assert 0.02 <= periods(solo_grid(), 3, lambda: time.sleep(next(pauses))) < 0.5


@pytest.mark.long
def test_reports_all_three_figures_and_a_trace(tmp_path: Path) -> None:
    found, trace = tmp_path / "found.json", tmp_path / "trace.json"
    command = [sys.executable, "-m", "tools.bench_engine", "--ranks", "2", "--seconds", "0.3", "--steps", "1",
               "--json", str(found), "--trace", str(trace)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    figures = json.loads(found.read_text())
    assert figures.keys() == {"split", "colocated", "gain"}
    assert all(figures[placement]["ratio"] > 0.9 for placement in ("split", "colocated"))  # nobody sleeps for less
    assert {event["pid"] for event in json.loads(trace.read_text())["traceEvents"]} == {0, 1}
