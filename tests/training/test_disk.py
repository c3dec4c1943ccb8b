"""A disk that is full, or read-only: what is lost, what goes on, what is said. It is the kernel that refuses."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.torchrun import torchrun
from tests.training.conftest import SMALL
from tests.training.test_trainer import TWO_EPOCHS, Configure, folder_of, saved_steps, status
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.manifest import Entries
from vid2vid_dist.monitor.metrics import MetricsLog
from vid2vid_dist.training import checkpoint
from vid2vid_dist.training.checkpoint import Files
from vid2vid_dist.training.trainer import Trainer

END = 15
EVERYTHING = (*TWO_EPOCHS, "run.save_every_steps=2", "run.keep_last=100", "monitor.log_every=1",
              "monitor.tensorboard=true", "monitor.pictures_every=1")

# No thread dies of the disk with a traceback of its own.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


def mount(*arguments: object) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"file systems are mounted by root only: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=64m", "none", folder)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**20))
        except OSError:
            return


def make_room(disk: Path) -> None:
    (disk / "ballast").unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    mount("--bind", folder, folder)
    try:
        mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def before_steps(trainer: Trainer, calls: dict[int, Callable[[], object]]) -> None:
    """Have something happen when a step has been made, before it is reported."""
    after_step = trainer.reporter.after_step

    def then(step: int, *others: object) -> bool:
        calls.get(step, lambda: None)()
        return after_step(step, *others)

    trainer.reporter.after_step = then


def final_tensors(cfg: Config) -> dict[str, Tensor]:
    folder = folder_of(cfg) / "checkpoints" / checkpoint.checkpoint_name(END)
    return {f"{path.relative_to(folder)}:{name}": x for path in sorted(folder.rglob("*.safetensors"))
            for name, x in load_file(path).items()}


@pytest.fixture
def undisturbed(configure: Configure, grid: Grid) -> dict[str, Tensor]:
    """All tensors of the run that nothing has happened to."""
    cfg = configure(*TWO_EPOCHS, "run.name=undisturbed")
    Trainer(cfg, grid).run()
    return final_tensors(cfg)


def assert_nothing_is_lost(cfg: Config, undisturbed: dict[str, Tensor]) -> None:
    found = final_tensors(cfg)
    assert found.keys() == undisturbed.keys()
    assert [name for name, x in found.items() if not torch.equal(x, undisturbed[name])] == []
    assert status(cfg)["status"] == "finished"
    assert not list((folder_of(cfg) / "checkpoints").glob(".*"))
    assert not list(folder_of(cfg).glob(".*"))


def journal(cfg: Config) -> list[dict]:
    """Every line, each of them whole."""
    return [json.loads(line) for line in (folder_of(cfg) / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.fault(
    "Disks",
    "the disk is full while a checkpoint is written",
    "it is not made, the one before stays, the next save tries again",
    "pictures of that time")
def test_full_disk_costs_saves_and_pictures_but_not_the_run(
        configure: Configure, grid: Grid, disk: Path, undisturbed: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    """It fills up while a checkpoint is written, and once more after the room of that is given back."""
    cfg = configure(*EVERYTHING, f"run.root={disk}")
    write_files = checkpoint.write_files

    def write(folder: Path, files: Files) -> Entries:
        if folder.name == ".step_00000004":
            fill(disk)
        return write_files(folder, files)

    monkeypatch.setattr(checkpoint, "write_files", write)
    trainer = Trainer(cfg, grid)

    def in_the_middle() -> None:
        assert checkpoint.newest_checkpoint(folder_of(cfg)) == folder_of(cfg) / "checkpoints/step_00000002"
        assert status(cfg)["step"] == 2
        make_room(disk)

    before_steps(trainer, {5: lambda: fill(disk), 8: in_the_middle})
    trainer.run()
    assert saved_steps(cfg) == [2, 8, 10, 12, 14, 15]
    assert_nothing_is_lost(cfg, undisturbed)
    records = journal(cfg)
    assert [record["step"] for record in records if "losses" in record] == list(range(1, END + 1))
    faults = {record["step"]: record["fault"] for record in records if record.get("fault")}
    assert faults.keys() == {4, 6}
    assert "No space left on device" in faults[4]
    assert "bytes, 0 are free" in faults[6]
    for words in ("step 4 could not be saved", "the sample of step 6",
                  "TensorBoard's scalars cannot be written", "the run's page cannot be written"):
        assert words in caplog.text


@pytest.mark.long
def test_a_commit_that_fails_for_whatever_reason_is_no_checkpoint(
        configure: Configure, grid: Grid, undisturbed: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor must it end the thread: the other ranks would wait for its word."""
    cfg = configure(*EVERYTHING)
    commit = checkpoint.commit

    def fail_once(aside: Path, entries: Entries) -> Path:
        if aside.name == ".step_00000004":
            raise ValueError
        return commit(aside, entries)

    monkeypatch.setattr(checkpoint, "commit", fail_once)
    Trainer(cfg, grid).run()
    assert saved_steps(cfg) == [2, 6, 8, 10, 12, 14, 15]
    assert [record["fault"] for record in journal(cfg) if record.get("fault")] == ["ValueError"]
    assert_nothing_is_lost(cfg, undisturbed)


@pytest.mark.fault(
    "Disks",
    "the disk stays full until the end",
    "\"failed\", says so",
    "steps since the last checkpoint")
@pytest.mark.long
def test_disk_that_stays_full_ends_the_run_at_its_last_save(
        configure: Configure, grid: Grid, disk: Path, undisturbed: dict[str, Tensor]) -> None:
    cfg = configure(*EVERYTHING, f"run.root={disk}")
    trainer = Trainer(cfg, grid)
    before_steps(trainer, {9: lambda: fill(disk)})
    with pytest.raises(UserError, match=r"step 15 could not be saved: it needs [\d,]+ bytes, 0 are free .* goes on"):
        trainer.run()
    assert status(cfg)["status"] == "failed"  # in place of what was there: that takes no room
    assert "step 15 could not be saved" in status(cfg)["why"]
    with pytest.raises(UserError, match=r"cannot write into the run's folder .*No space left .*free some space"):
        Trainer(cfg, grid)
    make_room(disk)
    Trainer(cfg, grid).run()
    assert_nothing_is_lost(cfg, undisturbed)


@pytest.mark.fault(
    "Disks",
    "the run's folder becomes read-only",
    "goes on; saves fail until it can be written to",
    "pictures of that time")
@pytest.mark.long
def test_run_folder_that_becomes_read_only(
        configure: Configure, grid: Grid, disk: Path, undisturbed: dict[str, Tensor],
        caplog: pytest.LogCaptureFixture) -> None:
    cfg = configure(*EVERYTHING, f"run.root={disk}")
    trainer = Trainer(cfg, grid)
    block = read_only(folder_of(cfg))
    before_steps(trainer, {3: block.__enter__, 7: lambda: block.__exit__(None, None, None)})
    trainer.run()
    assert saved_steps(cfg) == [2, 8, 10, 12, 14, 15]
    assert_nothing_is_lost(cfg, undisturbed)
    faults = {record["step"]: record["fault"] for record in journal(cfg) if record.get("fault")}
    assert faults.keys() == {4, 6}
    assert all("Read-only file system" in fault for fault in faults.values())
    with read_only(folder_of(cfg)), pytest.raises(UserError, match=r"cannot write into .*Read-only file system"):
        Trainer(cfg, grid)


def test_no_record_is_lost_or_torn(disk: Path) -> None:
    log = MetricsLog(disk)
    log.write({"step": 0})
    fill(disk)
    refused = 0
    for number in range(1, 200):  # the first ones still fit into the block that is begun
        try:
            log.write({"step": number, "text": "x" * 100})
        except OSError:
            refused += 1
    assert refused > 100
    make_room(disk)
    log.write({"step": 200})
    log.close()
    records = [json.loads(line) for line in (disk / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(201))


@pytest.mark.fault(
    "Disks",
    "one rank cannot write",
    "no rank's checkpoint counts",
    "nothing")
@pytest.mark.long
def test_one_of_two_ranks_cannot_write(shards: Path, tmp_path: Path) -> None:
    """Both know: the checkpoint is not made, the one before stays, the next is made by both."""
    settings = [*SMALL, f"data.shards={shards}", f"run.root={tmp_path}", "run.name=two", "run.save_every_steps=2",
                "run.max_steps=6", "schedule.n_frames_total=4"]
    result = torchrun(2, "tests/training/file_too_large.py", "4", *settings)
    assert result.returncode == 0, result.stdout
    assert "step 4 could not be saved (rank 1: " in result.stdout
    assert "File too large" in result.stdout
    folders = sorted(path.name for path in (tmp_path / "two/checkpoints").iterdir())
    assert folders == ["latest", "step_00000002", "step_00000006"]
    assert all(checkpoint.find_fault(path) is None for path in (tmp_path / "two/checkpoints").glob("step_*"))


@pytest.mark.fault(
    "Disks",
    "the disk is full while shards are packed",
    "one line; the same command goes on",
    "nothing")
def test_packing_on_a_disk_that_is_full_is_told_and_goes_on(toy_raw: Path, disk: Path) -> None:
    """Also where the last file is filled page by page: the kernel would end the process for that."""
    options = PackOptions(label_nc=35)
    make_shards(toy_raw, disk / "out", options, part=(1, 1))
    fill(disk)
    with pytest.raises(OSError, match="No space left on device"):
        make_shards(toy_raw, disk / "out", options)
    make_room(disk)
    make_shards(toy_raw, disk / "out", options)
    assert len(ShardIndex(disk / "out/train").videos) == 3
