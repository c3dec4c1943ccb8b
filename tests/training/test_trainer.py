"""The step loop: how many steps, where they stand, when a checkpoint is made, what is left behind."""

import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import yaml

from vid2vid_dist.config.load import to_yaml
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.search import Choice
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.training.checkpoint import Position
from vid2vid_dist.training.out_of_memory import explain_out_of_memory
from vid2vid_dist.training.status import Status, count_restarts
from vid2vid_dist.training.trainer import Trainer

Configure = Callable[..., Config]

# Three clips; an epoch of two chunks a clip, then one of three.
TWO_EPOCHS = ("schedule.niter=1", "schedule.niter_decay=1", "schedule.niter_step=1", "schedule.n_frames_total=4",
              "schedule.max_frames_per_rank=2")


def folder_of(cfg: Config) -> Path:
    return Path(cfg.run.root) / cfg.run.name


def status(cfg: Config) -> dict:
    return json.loads((folder_of(cfg) / "status.json").read_text())


def saved_steps(cfg: Config) -> list[int]:
    return sorted(int(path.name[5:]) for path in (folder_of(cfg) / "checkpoints").glob("step_*"))


@pytest.mark.parametrize(("overrides", "n_steps"), [
    ((), 3 * 2 + 3 * 3),
    (("parallel.clips_per_step=2",), 2 * 2 + 2 * 3),
    (("parallel.clips_per_step=4", "parallel.batch_size=2"), 2 + 3),
    (("data.max_videos=1",), 2 + 3),
    (("run.max_steps=4",), 4),
])
def test_number_of_steps_is_known_from_the_start(
        configure: Configure, grid: Grid, overrides: tuple[str, ...], n_steps: int) -> None:
    cfg = configure(*TWO_EPOCHS, *overrides)
    trainer = Trainer(cfg, grid)
    assert trainer._count_steps() == n_steps
    assert status(cfg)["status"] == "running"
    trainer.run()
    assert trainer.state.position.step == n_steps
    assert saved_steps(cfg) == [n_steps]
    assert status(cfg)["status"] == "finished"
    (told,) = (e["event"] for e in read_journal(folder_of(cfg)).events if e["event"].startswith("epoch 1:"))
    assert f"{cfg.parallel.clips_per_step or 1} clips per step" in told
    assert f"lr {cfg.optim.lr:.2g}" in told
    assert (folder_of(cfg) / "config.yaml").read_text() == to_yaml(trainer.cfg)


def test_positions_go_through_chunks_clips_and_epochs(configure: Configure, grid: Grid) -> None:
    trainer = Trainer(configure(*TWO_EPOCHS, "data.max_videos=2"), grid)
    seen = []
    trainer.reporter.after_step = lambda *args: seen.append(trainer.state.position)
    trainer.run()
    of_epoch_1 = [(1, 0, 1), (1, 1, 0), (1, 1, 1), (2, 0, 0)]
    of_epoch_2 = [(2, 0, 1), (2, 0, 2), (2, 1, 0), (2, 1, 1), (2, 1, 2), (3, 0, 0)]
    assert seen == [Position(i, *where) for i, where in enumerate(of_epoch_1 + of_epoch_2, 1)]


def test_the_last_step_is_reported(configure: Configure, grid: Grid) -> None:
    cfg = configure("run.max_steps=3", "monitor.log_every=2")
    Trainer(cfg, grid).run()
    assert [report["step"] for report in read_journal(folder_of(cfg)).reports] == [2, 3]


def test_checkpoints_come_in_steps_and_old_ones_go(configure: Configure, grid: Grid) -> None:
    cfg = configure(*TWO_EPOCHS, "run.save_every_steps=2", "run.keep_last=2", "run.keep_every_steps=4")
    Trainer(cfg, grid).run()
    assert saved_steps(cfg) == [4, 8, 12, 14, 15]


def test_checkpoints_come_in_minutes(configure: Configure, grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at when a reporting interval ends. Here every look at the clock takes a minute."""
    minutes = iter(range(10**6))
    monkeypatch.setattr("vid2vid_dist.training.trainer.time", Mock(monotonic=lambda: 60.0 * next(minutes)))
    cfg = configure(*TWO_EPOCHS, "run.save_every_minutes=0.5", "monitor.log_every=5", "run.max_steps=12")
    Trainer(cfg, grid).run()
    assert saved_steps(cfg) == [5, 10, 12]


def test_run_that_breaks_says_so(configure: Configure, grid: Grid) -> None:
    cfg = configure(*TWO_EPOCHS)
    trainer = Trainer(cfg, grid)
    trainer.reporter.after_step = Mock(side_effect=[False, ZeroDivisionError("nothing to divide")])
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert status(cfg) == {"status": "failed", "step": 2, "epoch": 1, "restarts": 0, "cause": "error",
                           "why": "rank 0: nothing to divide"}
    assert not (folder_of(cfg) / "checkpoints").exists()


def test_step_without_memory_names_the_knob(configure: Configure, grid: Grid) -> None:
    """A real allocation that fails, where every rank runs all roles."""
    cfg = configure(*TWO_EPOCHS)
    trainer = Trainer(cfg, grid)
    trainer.state.roles["generator"].label = lambda *_: torch.empty(2**50)
    words = (r"^out of memory: .*allocate 4503599627370496 bytes.* planner expects 2\.\d+ GB on this rank "
             r".*live frames 0\.\d+.*try .*=.*vid2vid-plan --ranks 1")
    with pytest.raises(UserError, match=words):
        trainer.run()
    assert "out of memory" in status(cfg)["why"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
                                   MemoryError()])
def test_out_of_memory_is_told_without_a_plan_too(grid: Grid, error: Exception) -> None:
    def expect() -> Choice:
        raise MemoryError

    wrapped = RuntimeError("step 3, a task: it failed")
    wrapped.__cause__ = error
    told = explain_out_of_memory(wrapped, grid, expect)
    assert "out of memory: step 3, a task" in str(told)
    assert "vid2vid-plan" in str(told)
    assert explain_out_of_memory(RuntimeError("another"), grid, expect) is None


def test_the_first_failure_is_the_reason(configure: Configure, grid: Grid) -> None:
    """The ranks that another one takes down with it do not write over its message."""
    cfg = configure(*TWO_EPOCHS)
    trainer = Trainer(cfg, grid)
    trainer.status.write_failure(UserError("a damaged frame"), Position())
    trainer.status.write_failure(RuntimeError("Connection closed by peer"), Position())
    assert status(cfg)["why"] == "rank 0: a damaged frame"


@pytest.mark.parametrize(("text", "restarts"), [
    ("[]", 0), ("{", 0), ('{"restarts": "often"}', 1), ('{"status": "failed"}', 1), ("[" * 10_000, 0)])
def test_status_that_is_none_of_ours_is_replaced(tmp_path: Path, text: str, restarts: int) -> None:
    (tmp_path / "status.json").write_text(text)
    status = Status(tmp_path, 0, count_restarts(tmp_path))
    status.write_failure(UserError("a damaged frame"), Position())
    status.write("running", Position())
    told = json.loads((tmp_path / "status.json").read_text())
    assert (told["status"], told["step"]) == ("running", 0)
    assert told["restarts"] == restarts


def test_environment_is_noted(configure: Configure, grid: Grid) -> None:
    cfg = configure()
    Trainer(cfg, grid)
    environment = json.loads((folder_of(cfg) / "environment.json").read_text())
    assert {"python", "torch", "deepspeed", "ranks", "device"} <= environment.keys()
    assert yaml.safe_load((folder_of(cfg) / "config.yaml").read_text())["run"]["device"] == "cpu"
