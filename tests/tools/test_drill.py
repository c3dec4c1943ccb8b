"""The short form of `make drill`: a run that is killed while it saves and while it works loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import ROOT
from tools.drill import Kill, Run, _check_resumes, _compare

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
    _check_resumes(run, [Kill(0, "steps", False, "step_00000002")])
    with pytest.raises(AssertionError, match=r"went on from \{'step_00000002'\}"):
        _check_resumes(run, [Kill(0, "steps", False, NEWEST)])


@pytest.mark.long
def test_killed_run_is_the_run_that_nobody_disturbed() -> None:
    command = [sys.executable, "-m", "tools.drill", "--kills", "2", "--in-save", "1", "--ranks", "2"]
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
                            capture_output=True, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "are the same bit by bit" in result.stdout
    assert "inside the save of step_" in result.stdout
