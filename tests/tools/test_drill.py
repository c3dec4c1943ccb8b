"""The short form of `make drill`: a run that is killed while it saves and while it works loses nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import ROOT
from tools.drill import End, Kind, Outcome, _check_resumes, _compare
from tools.drilled_run import Run

NEWEST = "step_00000004"


def ended(folder: Path, *weights: float) -> Run:
    """A run that has ended, after one that went on from its first checkpoint."""
    (folder / "checkpoints" / NEWEST).mkdir(parents=True)
    (folder / "checkpoints/latest").write_text(NEWEST)
    save_file({"weight": torch.tensor(weights)}, folder / "checkpoints" / NEWEST / "image.safetensors")
    event = {"event": f"resumed from {folder}/checkpoints/step_00000002: step 2, epoch 1"}
    (folder / "metrics.jsonl").write_text(json.dumps(event) + "\n")
    return Run(folder, n_ranks=2)


def test_the_drill_sees_a_weight_that_differs(tmp_path: Path) -> None:
    whole, same, other = ended(tmp_path / "a", 1, 2), ended(tmp_path / "b", 1, 2), ended(tmp_path / "c", 1, 3)
    _compare(whole, same)
    with pytest.raises(AssertionError, match=f"not the same after {NEWEST}: .*image.safetensors:weight"):
        _compare(whole, other)


def test_the_drill_sees_a_run_that_went_on_from_an_older_checkpoint(tmp_path: Path) -> None:
    run = ended(tmp_path / "run", 1)
    assert _check_resumes(run, [End(Kind.TERM, 0, "steps", False, "step_00000002")]) == 1
    with pytest.raises(AssertionError, match=r"went on from \{'step_00000002'\}"):
        _check_resumes(run, [End(Kind.TERM, 0, "steps", False, NEWEST)])


def test_the_drill_counts_what_is_lost_and_may_not_be() -> None:
    ends = [End(Kind.KILL_RANK, 0, "steps", True, NEWEST, 5, 4, 4), End(Kind.TERM, 0, "steps", False, NEWEST, 5, 1, 0)]
    outcome = Outcome(ends, kept=9, made=12, resumes=2)
    assert outcome.beyond == 1
    assert "2 ends (1 kill-rank, 0 kill-agent, 1 term," in str(outcome)
    assert "goodput 9/12 steps = 0.750; 2 resumes; lost beyond the last checkpoint's interval: 1" in str(outcome)


@pytest.mark.fault(
    "A run ends",
    "all of these, one after the other (`make drill`, `make soak`)",
    "the run that nobody disturbed, bit by bit",
    "as said above, never more")
@pytest.mark.long
@pytest.mark.timeout(450)
def test_a_run_that_ends_in_three_ways_is_the_run_that_nobody_disturbed() -> None:
    kinds = ["kill-rank", "kill-agent", "disk-full" if os.geteuid() == 0 else "term"]
    command = [sys.executable, "-m", "tools.drill", "--ends", "3", "--kinds", *kinds, "--in-save", "1", "--ranks", "2"]
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
                            capture_output=True, timeout=400)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "are the same bit by bit" in result.stdout
    assert "lost beyond the last checkpoint's interval: 0" in result.stdout
    assert result.stdout.startswith("3 ends (1 kill-rank, 1 kill-agent, ", result.stdout.rindex("3 ends"))
