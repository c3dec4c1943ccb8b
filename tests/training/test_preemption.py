"""A run that is asked to end saves first, says who asked, and goes on as if it had never been asked."""

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.torchrun import torchrun
from tests.training.test_resume import END, assert_same, final_tensors, two_rank_settings
from tests.training.test_trainer import TWO_EPOCHS, Configure, folder_of, saved_steps, status
from vid2vid_dist.config.schema import RunConfig
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import LostRankError
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.training.preemption import FILES, Ask, Asked
from vid2vid_dist.training.trainer import Trainer


def ask_at(trainer: Trainer, step: int, ask: Callable[[], object]) -> None:
    """Between two steps: the next one is still done."""
    after_step = trainer.reporter.after_step
    trainer.asked._next_look = 0.0

    def then(now: int, *others: object) -> bool:
        if now == step:
            ask()
            trainer.asked._next_look = 0.0
        return after_step(now, *others)

    trainer.reporter.after_step = then


@pytest.mark.long
def test_requests_to_one_of_two_ranks_hold_for_both(shards: Path, tmp_path: Path) -> None:
    """Signals, files, a time limit: all ranks save the same step, and in the end nothing differs from one long run."""
    settings = two_rank_settings(shards, tmp_path)
    result = torchrun(2, "tests/training/preempted.py", str(END), *settings, "run.time_margin=0")
    assert result.returncode == 0, result.stdout
    outcomes = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    told = [(x["status"], x["step"], x["restarts"], x.get("why")) for x in outcomes]
    assert told == [
        ("finished", 10, 0, None), ("preempted", 2, 0, "SIGUSR2"), ("preempted", 4, 1, "file `preempt`"),
        ("preempted", 5, 2, "run.time_limit"), ("preempted", 7, 3, "SIGTERM"), ("stopped", 9, 4, "file `stop`"),
        ("finished", 10, 5, None),
    ]
    assert_same(final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "parts"))
    assert not [name for name in FILES if (tmp_path / "parts" / name).exists()]


@pytest.mark.parametrize(("name", "steps", "outcome"), [
    ("save", [3, 15], "finished"), ("preempt", [3], "preempted"), ("stop", [3], "stopped"),
])
def test_files_in_the_run_folder(
        configure: Configure, grid: Grid, name: str, steps: list[int], outcome: str) -> None:
    cfg = configure(*TWO_EPOCHS)
    trainer = Trainer(cfg, grid)
    ask_at(trainer, 2, (folder_of(cfg) / name).touch)
    trainer.run()
    assert saved_steps(cfg) == steps
    assert status(cfg)["status"] == outcome
    assert not (folder_of(cfg) / name).exists()


@pytest.mark.fault(
    "A run ends",
    "Ctrl-C; a second one",
    "saves and ends as \"stopped\"; the second ends at once",
    "nothing; steps since the last checkpoint")
def test_an_interrupt_saves_and_a_second_one_does_not_wait(configure: Configure, grid: Grid) -> None:
    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs are started with it ignored
    cfg = configure(*TWO_EPOCHS)
    trainer = Trainer(cfg, grid)
    ask_at(trainer, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    trainer.run()
    assert (status(cfg)["status"], status(cfg)["why"], saved_steps(cfg)) == ("stopped", "SIGINT", [3])
    trainer = Trainer(cfg, grid)
    ask_at(trainer, 4, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert saved_steps(cfg) == [3]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_that_is_done_is_finished_whatever_is_asked(configure: Configure, grid: Grid) -> None:
    """Or a batch script would take it up again."""
    cfg = configure(*TWO_EPOCHS, "run.max_steps=3")
    trainer = Trainer(cfg, grid)
    ask_at(trainer, 2, (folder_of(cfg) / "preempt").touch)
    trainer.run()
    assert status(cfg)["status"] == "finished"
    told = read_journal(folder_of(cfg)).events[-1]["event"]
    assert told.startswith(f"finished after step 3: look at {folder_of(cfg)}/web/index.html; vid2vid-generate")
    assert not (folder_of(cfg) / "preempt").exists()


def test_a_file_server_in_trouble_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = os.stat

    def stale(path: object, *others: object, **more: object) -> os.stat_result:
        if Path(str(path)).name in FILES:
            raise OSError(errno.ESTALE, "Stale file handle")
        return look(path, *others, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stale)
    assert Asked(RunConfig(root=str(tmp_path)), looks=True).now() == Ask.NOTHING


@pytest.mark.parametrize(("heard", "is_told"), [(signal.SIGTERM, True), (signal.SIGUSR1, False), (0, False)])
def test_a_rank_that_torchrun_ends_for_another_ones_sake(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: int, is_told: bool) -> None:
    """The signal may come before what went wrong has been noted here: then nothing more is said."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    asked = Asked(RunConfig(root=str(tmp_path), name="run"), looks=True)

    def step() -> None:
        if heard:
            os.kill(os.getpid(), heard)
        raise LostRankError("step 1, rank 0: gradients of all ranks")

    with pytest.raises(LostRankError) as lost, asked.listening():
        step()
    assert lost.value.is_told == is_told


def test_the_end_of_a_slurm_job_comes_before_a_later_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = RunConfig(root=str(tmp_path), time_limit=30)
    for minutes, ask in {1: Ask.SLURM_END, 20: Ask.NOTHING}.items():
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 60 * minutes))
        assert Asked(run, looks=True).now() == ask
    assert Asked(run, looks=False).now() == Ask.NOTHING
