"""The benchmark of a step, at a size that takes no time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street


def test_figures_of_a_small_step(tmp_path: Path) -> None:
    render_toy_street(tmp_path / "raw", ToyOptions(n_train=1, n_test=1, n_frames=5, width=64, height=32))
    make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(label_nc=35))
    job = subprocess.run(
        [sys.executable, "-m", "tools.bench_step", f"data.shards={tmp_path / 'shards'}", "data.loadSize=64",
         "run.device=cpu", "--sizes", "512", "--width", "8", "--steps", "1", "--json", str(tmp_path / "found.json")],
        cwd=ROOT, capture_output=True, text=True)
    assert job.returncode == 0, job.stderr
    (row,) = json.loads((tmp_path / "found.json").read_text())["sizes"]
    assert (row["size"], row["ngf"], row["frames"]) == ("64x32", 8, 1)
    assert row["frames_per_second"] == pytest.approx(1 / row["seconds_per_step"])
    assert row["roles"]["generator"]["flops"] > row["roles"]["flow"]["flops"] == 0
    assert sum(role["seconds"] for role in row["roles"].values()) <= 1.2 * row["seconds_per_step"]
    assert row["memory_gb"] > 0
    assert "s/step" in job.stdout
