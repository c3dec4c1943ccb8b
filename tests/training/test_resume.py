"""A run that stops and goes on is the run that never stopped, bit by bit."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.torchrun import torchrun
from tests.training.conftest import SMALL
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.training.trainer import Trainer

# Epoch 1: three clips on two ranks, each of two chunks, finest scale only: steps 1, 2 | 3, 4. From epoch 2 on all
# scales, clips of three chunks: steps 5, 6, 7 | 8, 9, 10. A stop after 1 and 6 is in the middle of clips, after 2
# between two, after 4 where the curriculum switches.
GROWING = [
    "generator.n_scales_spatial=2", "schedule.niter_fix_global=1", "schedule.n_frames_total=4",
    "schedule.max_frames_per_rank=2", "schedule.max_frames_backpropagate=2", "schedule.niter_step=1",
    "schedule.niter=2", "schedule.niter_decay=1", "optim.lr=1e-2", "optim.TTUR=true", "optim.ema_decay=0.9",
]
STOPS, END = (1, 2, 4, 6), 10
ROLES = ["generator", "generator_ema", "image", "temporal_0"]


def final_tensors(run_dir: Path) -> dict[str, Tensor]:
    """Every tensor of the last checkpoint, clips in flight included."""
    folder = run_dir / "checkpoints" / (run_dir / "checkpoints/latest").read_text().strip()
    files = [*folder.glob("*.safetensors"), *folder.glob("lanes/*.safetensors")]
    assert {path.stem for path in files} >= set(ROLES)
    return {f"{path.stem}.{name}": tensor for path in files for name, tensor in load_file(path).items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.fixture(scope="module")
def two_ranks(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs `whole` and `parts`: two ranks, ZeRO 1."""
    root = tmp_path_factory.mktemp("runs")
    stops = ",".join(map(str, [*STOPS, END]))
    result = torchrun(2, "tests/training/stop_and_go.py", stops, *two_rank_settings(shards, root))
    assert result.returncode == 0, result.stdout
    return root


def two_rank_settings(shards: Path, root: Path) -> list[str]:
    return [*SMALL, *GROWING, f"data.shards={shards}", f"run.root={root}"]


def test_stopped_run_on_two_ranks(two_ranks: Path) -> None:
    whole, parts = (final_tensors(two_ranks / name) for name in ("whole", "parts"))
    assert_same(whole, parts)
    journal = (two_ranks / "parts/metrics.jsonl").read_text()
    for stop in STOPS:
        assert f"step_{stop:08d}: step {stop}, epoch {1 if stop < 4 else 2}" in journal


@pytest.mark.long
def test_run_killed_while_saving(two_ranks: Path, shards: Path) -> None:
    """The checkpoint that was being written does not count; the run goes on from the one before it."""
    settings = [*two_rank_settings(shards, two_ranks), "run.name=killed", "run.save_every_steps=3"]
    result = torchrun(2, "tests/training/killed_while_saving.py", "6", *settings, f"run.max_steps={END}")
    assert result.returncode != 0
    checkpoints = two_ranks / "killed/checkpoints"
    assert (checkpoints / "latest").read_text() == "step_00000003\n"
    assert sorted(path.name for path in checkpoints.glob("step_*")) == ["step_00000003"]
    result = torchrun(2, "launch/train.py", "configs/base.yaml", *settings, f"run.max_steps={END}")
    assert result.returncode == 0, result.stdout
    assert "step_00000003: step 3, epoch 1" in result.stdout
    assert_same(final_tensors(two_ranks / "whole"), final_tensors(two_ranks / "killed"))
    assert not [path for path in checkpoints.iterdir() if path.name.startswith(".")]


# On one rank: two steps a clip in epoch 1, which ends with step 6, three a clip from then on.
ALONE = (1, 2, 6, 8, 9)


def test_stopped_run_on_the_plain_backend(configure: Callable[..., Config], grid: Grid, tmp_path: Path) -> None:
    for name, stops in {"whole": [ALONE[-1]], "parts": ALONE}.items():
        for stop in stops:
            Trainer(configure(*GROWING, f"run.name={name}", f"run.max_steps={stop}"), grid).run()
    whole, parts = (final_tensors(tmp_path / name) for name in ("whole", "parts"))
    assert_same(whole, parts)
    # The comparison can fail: a step less is seen in every role.
    Trainer(configure(*GROWING, "run.name=short", f"run.max_steps={ALONE[-2]}"), grid).run()
    short = final_tensors(tmp_path / "short")
    for role in ROLES:
        of_role = [name for name in whole if name.startswith(f"{role}.")]
        assert not all(short[name].equal(whole[name]) for name in of_role)


def test_finished_run_is_left_alone(configure: Callable[..., Config], grid: Grid, tmp_path: Path) -> None:
    cfg = configure("schedule.niter=1", "schedule.niter_decay=0", "schedule.n_frames_total=1")
    for _ in range(2):
        Trainer(cfg, grid).run()
    status = json.loads((tmp_path / cfg.run.name / "status.json").read_text())
    assert (status["status"], status["step"], status["epoch"]) == ("finished", 3, 2)
    assert len(list((tmp_path / cfg.run.name / "checkpoints").glob("step_*"))) == 1
