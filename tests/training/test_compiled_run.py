"""A run with `optim.compile=tasks` stops and goes on; without a compiler it says so and does not begin."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import ROOT
from tests.engine.test_compiled_tasks import COMPILED, TINY
from tests.models.test_compiling import HAS_COMPILER
from tests.training.conftest import SMALL
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.training.trainer import Trainer

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def saved(run: Path) -> dict[str, Tensor]:
    """Weights and moments at the end."""
    folder = run / "checkpoints" / (run / "checkpoints/latest").read_text().strip()
    return {f"{path.relative_to(folder)} {name}": tensor for path in folder.rglob("*.safetensors")
            for name, tensor in load_file(path).items()}


def losses(run: Path) -> list[dict[str, float]]:
    """Of every step."""
    return [report["losses"] for report in read_journal(run).reports]


@pytest.mark.skipif(not HAS_COMPILER, reason="no g++")
def test_a_run_that_stops_goes_on(configure: Callable[..., Config], grid: Grid, tmp_path: Path) -> None:
    """Bit by bit, through ZeRO, where every part is compiled anew as in a new process; and one that was not compiled
    goes on compiled, near it."""
    def train(name: str, stop: int, compiled: str = COMPILED) -> None:
        torch.compiler.reset()
        Trainer(configure(*TINY, "optim.backend=zero", "schedule.n_frames_total=2", "monitor.log_every=1", compiled,
                          f"run.name={name}", f"run.max_steps={stop}"), grid).run()

    train("whole", 2)
    train("parts", 1)
    train("parts", 2)
    train("turned on", 1, "optim.compile=off")
    train("turned on", 2)
    whole, parts, turned_on = (saved(tmp_path / name) for name in ("whole", "parts", "turned on"))
    assert whole.keys() == parts.keys() == turned_on.keys()
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    # Adam takes whole steps where a gradient is rounding alone: weights part, losses do not.
    counted = [name for name in whole if name.endswith("num_batches_tracked")]
    assert counted
    assert all(whole[name] == turned_on[name] > 0 for name in counted)
    assert any("optim.compile" in event["event"] for event in read_journal(tmp_path / "turned on").events)
    for expected, found in zip(*(losses(tmp_path / name) for name in ("whole", "turned on")), strict=True):
        assert found == pytest.approx(expected, rel=1e-3)


def test_without_a_compiler_no_run_begins(shards: Path, tmp_path: Path) -> None:
    """One line that says what to do."""
    job = subprocess.run(
        [sys.executable, "-m", "vid2vid_dist.train", *SMALL, COMPILED, f"data.shards={shards}", f"run.root={tmp_path}"],
        cwd=ROOT, env=os.environ | {"CXX": "/bin/false", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True, text=True, check=False)
    assert job.returncode == 2
    (line,) = job.stderr.splitlines()
    assert line.startswith("error: optim.compile=tasks: nothing can be compiled here (InvalidCxxCompiler:")
    assert line.endswith("or set optim.compile=off")
