"""A run goes on on other ranks, in another placement or ZeRO stage: nothing of its state changes on the way."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.torchrun import torchrun
from tests.training.conftest import SMALL
from vid2vid_dist.engine.run.optimizer_state import MASTER, MOMENTS, Owned, SavedPieces
from vid2vid_dist.training.checkpoint import SavedState, checkpoint_name

# Clips of three chunks, two at a time, three an epoch: every step but each third ends in the middle of clips, and
# the second round leaves one lane empty. Temporal groups look four frames back.
CLIPS = ["generator.n_scales_spatial=2", "discriminator.n_frames_D=2", "discriminator.n_scales_temporal=3",
         "schedule.n_frames_total=6", "schedule.n_generator_slots=2", "optim.ema_decay=0.9", "monitor.log_every=1",
         "run.save_every_steps=1", "run.keep_last=100"]


@dataclass(frozen=True)
class Stay:
    """Where a run is for two steps."""

    ranks: int
    placement: str
    zero_stage: int = 1
    pipelines: int = 0
    more: tuple[str, ...] = ()


ONCE = [Stay(1, "data_parallel"), Stay(2, "split:1+1", 2)]
TWICE = [Stay(2, "data_parallel"), Stay(3, "split:2+1", 2), Stay(1, "data_parallel")]
LONG = [Stay(4, "data_parallel"), Stay(2, "split:1+1", 2), Stay(3, "colocated"), Stay(8, "split:2+2", 2, pipelines=2),
        Stay(1, "data_parallel"), Stay(4, "colocated", pipelines=2), Stay(3, "data_parallel", 2), Stay(3, "split:1+2")]
BF16 = [Stay(2, "data_parallel", more=("optim.precision=bf16",)),
        Stay(3, "split:2+1", 2, more=("optim.precision=bf16",))]
PLAIN = [Stay(2, "split:1+1", more=("optim.backend=plain",)), Stay(1, "data_parallel", more=("optim.backend=plain",)),
         Stay(2, "data_parallel")]


def stay(where: Stay, root: Path, shards: Path, number: int) -> None:
    """Link `number` of a chain: go on from where the one before was after its first step, for two steps."""
    settings = [f"parallel.placement={where.placement}", f"parallel.pipelines={where.pipelines}",
                f"optim.zero_stage={where.zero_stage}", f"run.name=stay{number}", f"run.max_steps={number + 2}",
                f"run.root={root}", f"data.shards={shards}", *where.more]
    if number == 0:
        settings.append("parallel.clips_per_step=2")
    else:
        before, after = (root / f"stay{n}/checkpoints" for n in (number - 1, number))
        shutil.copytree(before / checkpoint_name(number), after / checkpoint_name(number))
        (after / "latest").write_text(checkpoint_name(number))
    result = torchrun(where.ranks, "tests/training/move.py", *SMALL, *CLIPS, *settings, timeout=600)
    assert result.returncode == 0, result.stdout


def state_of(folder: Path) -> dict[str, Tensor]:
    """Weights, average, masters and moments of a checkpoint, put together from what its ranks wrote."""
    found = {}
    for file in folder.glob("*.safetensors"):
        weights = load_file(file)
        found |= {f"{file.stem}.{name}": x for name, x in weights.items()}
        if (folder / "optimizer" / file.stem).is_dir():
            found |= optimizer_of(folder / "optimizer" / file.stem, weights)
    return found


def optimizer_of(folder: Path, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    saved, found = SavedPieces(folder), {}
    for name, x in weights.items():
        if "running_" in name or "num_batches" in name:  # no parameter
            continue
        for kind in (MASTER, *(MOMENTS if saved.step is not None else ())):
            flat = torch.empty(x.numel())
            saved.read_into(flat, kind, [Owned(name, 0, x.numel(), 0)])
            found[f"{folder.name}.{kind}.{name}"] = flat
    return found | ({} if saved.step is None else {f"{folder.name}.step": saved.step})


def losses(run_dir: Path, step: int) -> dict[str, float]:
    records: Iterable[dict] = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return next(record["losses"] for record in records if "losses" in record and record["step"] == step)


def clips(run_dir: Path) -> object:
    return json.loads((run_dir / "clips.json").read_text())


def walk(chain: list[Stay], root: Path, shards: Path, same_losses: bool = True) -> None:
    stay(chain[0], root, shards, 0)
    for number, where in enumerate(chain[1:], 1):
        saved = root / f"stay{number - 1}/checkpoints" / checkpoint_name(number)
        before = state_of(saved)
        stay(where, root, shards, number)
        after = state_of(root / f"stay{number}/loaded")
        assert any("exp_avg_sq" in name for name in before)
        assert before.keys() == after.keys(), where
        assert [name for name in before if not before[name].equal(after[name])] == [], where
        a, b = (SavedState.read(root / f"stay{n}/checkpoints" / checkpoint_name(number + 1)) for n in (
            number - 1, number))
        assert (a.position, a.data, a.clips_per_step) == (b.position, b.data, b.clips_per_step)
        # Of the step that comes: its clips, and its losses, against the run that stayed where it was.
        if number % 3:  # not between two rounds, where the first stay of a chain has noted those of the round before
            assert clips(root / f"stay{number - 1}") == clips(root / f"stay{number}")
        stayed, moved = (losses(root / f"stay{n}", number + 1) for n in (number - 1, number))
        if same_losses:
            assert moved == pytest.approx(stayed, rel=1e-6, abs=1e-7), where


def test_one_rank_to_split(shards: Path, tmp_path: Path) -> None:
    walk(ONCE, tmp_path, shards)


@pytest.mark.long
def test_data_parallel_to_split_to_one_rank(shards: Path, tmp_path: Path) -> None:
    walk(TWICE, tmp_path, shards)


@pytest.mark.full
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("chain", [LONG, PLAIN], ids=["long", "plain"])
def test_moves(shards: Path, tmp_path: Path, chain: list[Stay]) -> None:
    walk(chain, tmp_path, shards)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_moves_in_bfloat16(shards: Path, tmp_path: Path) -> None:
    """Weights are rounded, so losses agree roughly only; what was saved is loaded bit by bit."""
    walk(BF16, tmp_path, shards, same_losses=False)
