"""The check of a GPU in its small form, so that it works on the day on which there is one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.gpu_check import Found, Options, check
from vid2vid_dist.engine.run.grid import solo_grid


def some_options(out: Path) -> Options:
    return Options(solo_grid(), out, out / "no golden", small=True, overrides=[])


def test_parts_go_on_when_another_fails(tmp_path: Path) -> None:
    def bad(options: Options) -> Found:
        raise RuntimeError("CUDA error: an illegal memory access")

    def good(options: Options) -> Found:
        return Found("good")

    found = check(some_options(tmp_path), [bad, good], 8)
    assert [(part.part, part.ok) for part in found] == [("bad", False), ("good", True)]
    assert "illegal memory access" in found[0].said
    (late,) = check(some_options(tmp_path), [good], 0)
    assert late.ok is None


@pytest.mark.long
def test_small_form_runs_to_its_end(toy_shards: Path, golden_dir: Path, tmp_path: Path) -> None:
    job = subprocess.run(
        [sys.executable, "-m", "tools.gpu_check", f"data.shards={toy_shards}", "--out", str(tmp_path), "--golden",
         str(golden_dir), "--small", "--minutes", "20"], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert job.returncode == 0, f"{job.stdout}{job.stderr}"
    told = json.loads((tmp_path / "gpu_check.json").read_text())
    ok = {part["part"]: part["ok"] for part in told["parts"]}
    # What needs a GPU, or several, says so.
    assert ok == {"device": True, "same step": True, "compiled": None, "golden": True, "host waits": None,
                  "bf16": True, "steps": True, "generation": True, "label convolution": True, "ranks": None}
    assert json.loads((tmp_path / "costs_512.json").read_text())["generator/synthesis/0"] > 0
    assert told["device"].startswith("CPU")
