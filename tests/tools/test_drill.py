"""The short form of `make drill`: a run that is killed while it saves and while it works loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conftest import ROOT


def test_killed_run_is_the_run_that_nobody_disturbed() -> None:
    command = [sys.executable, "-m", "tools.drill", "--kills", "2", "--in-save", "1", "--ranks", "2"]
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
                            capture_output=True, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "are the same bit by bit" in result.stdout
    assert "inside the save of step_" in result.stdout
