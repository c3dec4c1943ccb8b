"""The probe step: it happens before the run, leaves no trace in it, and says early what does not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.torchrun import torchrun
from tests.training.conftest import SMALL
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.training.probe_step import heaviest_epoch
from vid2vid_dist.training.trainer import Trainer

GROWS = ["generator.n_scales_spatial=2", "schedule.niter_fix_global=1", "schedule.n_frames_total=3",
         "schedule.max_frames_per_rank=6", "schedule.niter=2", "schedule.niter_decay=1", "schedule.niter_step=2",
         "optim.ema_decay=0.9"]


def saved(run: Path) -> dict[str, torch.Tensor]:
    """Everything that the newest checkpoint holds: weights, averages, moments, clips in flight."""
    folder = run / "checkpoints"
    newest = folder / (folder / "latest").read_text().strip()
    return {f"{file.relative_to(newest)} {key}": x for file in sorted(newest.rglob("*.safetensors"))
            for key, x in load_file(file).items()}


@pytest.mark.long
@pytest.mark.parametrize(("ranks", "placement", "backend"), [
    pytest.param(2, "data_parallel", "plain", marks=pytest.mark.full), (2, "split:1+1", "zero")])
def test_a_probed_run_equals_one_without(shards: Path, tmp_path: Path, ranks: int, placement: str,
                                         backend: str) -> None:
    """Bit by bit, with a start in the middle of a clip, past the switch to all scales."""
    for probe in ("on", "off"):
        for max_steps in (1, 7):
            result = torchrun(ranks, "launch/train.py", "configs/base.yaml", *SMALL, *GROWS, f"data.shards={shards}",
                              f"run.root={tmp_path}", f"run.name={probe}", f"run.probe_step={probe}",
                              f"run.max_steps={max_steps}", f"parallel.placement={placement}",
                              f"optim.backend={backend}", "monitor.log_every=1", "parallel.clips_per_step=2",
                              "schedule.n_frames_total=4", "schedule.max_frames_per_rank=2",
                              "discriminator.n_frames_D=2")
            assert result.returncode == 0, result.stdout
    probed, plain = saved(tmp_path / "on"), saved(tmp_path / "off")
    assert probed.keys() == plain.keys()
    assert all(x.equal(probed[key]) for key, x in plain.items())
    journals = [read_journal(tmp_path / name) for name in ("on", "off")]
    assert len(journals[0].reports) == 7
    for figures in ("losses", "accuracy", "gradient_norms"):
        assert [r[figures] for r in journals[0].reports] == [r[figures] for r in journals[1].reports]
    events = [[e["event"] for e in journal.events if e["event"].startswith("probe: ")] for journal in journals]
    assert [len(lines) for lines in events] == [2, 0]
    assert "all scales trained) fits" in events[0][0]


def test_what_will_not_fit_ends_the_run_before_its_first_step(
        configure: Callable[..., Config], grid: Grid, tmp_path: Path) -> None:
    """A GPU's allocator cannot be asked here: the discriminator refuses more than three frames in its stead."""
    trainer = Trainer(configure(*GROWS, "run.name=run", "run.probe_step=on"), grid)
    discriminator: Any = trainer.state.roles["image"]
    see_real = discriminator.see_real

    def small(inputs: torch.Tensor, *more: object) -> object:
        if len(inputs) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return see_real(inputs, *more)

    discriminator.see_real = small
    words = r"probe of a step of epoch 3 \(chunks of 6 frames.*The planner expects"
    with pytest.raises(UserError, match=words) as told:
        trainer.run()
    assert "most of it is workspace: try discriminator.frames_per_pass=1" in str(told.value)
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert (status["status"], status["step"]) == ("failed", 0)


def test_only_growth_is_probed(configure: Callable[..., Config]) -> None:
    cfg = configure(*GROWS)
    assert [heaviest_epoch(cfg, epoch, 30) for epoch in (1, 2, 3, 4)] == [3, 3, None, None]
    assert heaviest_epoch(configure(), 1, 30) is None
