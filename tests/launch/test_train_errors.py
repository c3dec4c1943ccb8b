"""Every mistake that one can make with `launch/train.py`: one line that names it and the fix, nothing half-written."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.conftest import ROOT
from tests.damage import edit_index, spoil_picture, tar_of
from tests.torchrun import torchrun
from vid2vid_dist.cli import train
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

SMALL = [
    "data.loadSize=64", "data.no_flip=true", "data.shuffle=false", "data.workers=0",
    "generator.ngf=4", "generator.n_blocks=2", "generator.n_downsample_G=2", "generator.fg=false",
    "discriminator.ndf=4", "discriminator.num_D=1", "discriminator.n_scales_temporal=1", "loss.no_vgg=true",
    "schedule.n_frames_total=4", "schedule.max_frames_per_rank=2",
    "run.root=runs", "run.name=try", "run.device=cpu", "run.max_steps=1", "monitor.tensorboard=false",
]
PLAIN = "optim.backend=plain"  # DeepSpeed takes seconds to import
Train = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a toy street: 2 training videos of 8 frames, 64x32; read only."""
    root = tmp_path_factory.mktemp("street")
    render_toy_street(root / "raw", ToyOptions(n_train=2, n_test=1, n_frames=8, width=64, height=32))
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35))
    return root / "shards"


@pytest.fixture
def here(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; `shards` is a copy that a test may damage."""
    shutil.copytree(packed, tmp_path / "shards")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def start(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Train]:
    """start("key=value", ...) runs the program in this process and gives its exit status and stderr."""
    monkeypatch.setenv("LOCAL_RANK", "0")  # the program sets it: this puts it back

    def run(*overrides: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["train.py", *command(*overrides)])
        monkeypatch.delenv("RANK", raising=False)
        try:
            with pytest.raises(SystemExit) as exit_:
                run_main(train.main)
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
        return exit_.value.code, capsys.readouterr().err

    return run


def command(*overrides: str) -> list[str]:
    return [*SMALL, PLAIN, "data.shards=shards", *overrides]


def process(*overrides: str, **environment: object) -> subprocess.CompletedProcess[str]:
    """`python launch/train.py` as a user starts it, in the working folder."""
    known = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    given = {name: str(value) for name, value in environment.items()}
    return subprocess.run([sys.executable, ROOT / "launch/train.py", *command(*overrides)], env=known | given,
                          capture_output=True, text=True, check=False, timeout=120)


def assert_one_line(status: int, stderr: str, *words: str) -> None:
    assert status == 2
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    for word in words:
        assert word in stderr


def truncate(shards: Path) -> None:
    os.truncate(tar_of(shards / "train"), 5000)


def put_foreign_tar(shards: Path) -> None:
    """Of the same size, with other bytes."""
    tar = tar_of(shards / "train")
    tar.write_bytes(bytes(tar.stat().st_size))


def shorten_index(shards: Path) -> None:
    edit_index(shards, lambda index: index["videos"][1]["frames"].pop())


@pytest.mark.parametrize(("overrides", "words"), [
    (["generator.n_block=3"], ["command line: unknown key generator.n_block", "did you mean generator.n_blocks?"]),
    (["optim.lr=-1"], ["command line: optim.lr", "-1", "0..1"]),
    (["optim.lr=fast"], ["command line: optim.lr", "fast"]),
    (["discriminator.add_face_disc=true"], ["add_face_disc needs body pose input", "set data.label_nc=0"]),
    (["nowhere.yaml"], ["nowhere.yaml"]),
    (["data.shards=elsewhere"], ["no shards at elsewhere/train", "vid2vid-shards", "data.shards"]),
    (["data.label_nc=20"], ["shards/train: label id", "street000", "data.label_nc=20", "raise data.label_nc"]),
    (["schedule.n_frames_total=16", "schedule.max_frames_per_rank=16"],
     ["video street0000 in shards/train has 8 frames", "needs 18", "lower schedule.n_generator_slots"]),
    (["loss.no_vgg=false"], ["no weights file at ''", "set loss.vgg_weights", "loss.no_vgg=true"]),
    (["loss.no_vgg=false", "loss.vgg_weights=vgg.pth"], ["no weights file at 'vgg.pth'", "loss.no_vgg=true"]),
    (["loss.no_vgg=false", "loss.vgg_weights=shards/train/index.json"], ["index.json: not a readable weights file"]),
    (["flow.network=raft_small", "flow.weights=raft.pth"], ["no weights file at 'raft.pth'", "flow.network=dis"]),
    (["run.load_pretrain=runs/coarse"], ["run.load_pretrain=runs/coarse", "name a run folder"]),
    (["run.device=cuda"], ["run.device=cuda", "sees no GPU", "run.device=cpu"]),
], ids=lambda value: " ".join(value[:1]) if "=" in value[0] or "yaml" in value[0] else "")
def test_mistake_is_told_before_anything_is_written(
        start: Train, here: Path, overrides: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, stderr = start(*overrides)
    assert_one_line(status, stderr, *words)
    assert_only_told(here, stderr)


@pytest.mark.parametrize(("damage", "words"), [
    (lambda shards: shutil.rmtree(shards / "train"), ["no shards at shards/train", "bare `vid2vid-shards`"]),
    (lambda shards: tar_of(shards / "train").unlink(), ["shard-000000", ".tar is missing", "vid2vid-shards"]),
    (lambda shards: (shards / "train/index.json").unlink(), ["no index.json", "not all there", "vid2vid-shards"]),
    (truncate, [".tar has 5000 bytes", "truncated or foreign tar", "vid2vid-shards"]),
    (shorten_index, ["index.json is damaged", "street0001", "vid2vid-shards"]),
])
def test_damaged_shards_are_refused_before_anything_is_written(
        start: Train, here: Path, damage: Callable[[Path], object], words: list[str]) -> None:
    damage(here / "shards")
    status, stderr = start()
    assert_one_line(status, stderr, *words)
    assert_only_told(here, stderr)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("damage", "words"), [
    (put_foreign_tar, ["street0000/frame00000", "the bytes differ from the index", "vid2vid-shards"]),
    (spoil_picture, ["images of street0000/frame000002", "unreadable image", "replace the file"]),
])
def test_damage_that_shows_when_read_ends_the_run(
        start: Train, here: Path, damage: Callable[[Path], object], words: list[str], workers: int) -> None:
    damage(here / "shards")
    # Frame 2 of the video is read with the first chunk.
    status, stderr = start(f"data.workers={workers}", "schedule.n_frames_total=6")
    assert_one_line(status, stderr, *words)
    outcome = json.loads((here / "runs/try/status.json").read_text())
    assert (outcome["status"], outcome["step"]) == ("failed", 0)
    assert f"error: {outcome['why'].removeprefix('rank 0: ')}\n" == stderr
    assert not (here / "runs/try/checkpoints").exists()


def test_checkpoint_of_another_run_is_refused(start: Train, here: Path) -> None:
    assert start("run.max_steps=1") == (0, "")
    before = contents(here / "runs")
    for override, words in {
        "generator.ngf=8": ["step_00000001 was made with other networks", "(ngf: saved 4, now 8)", "run.name"],
        "generator.norm=instance": ["(norm: saved 'batch', now 'instance')"],
        "run.seed=1": ["other data", "(seed: saved 0, now 1)"],
        "data.loadSize=32": ["other data", "(loadSize: saved 64, now 32)"],
        "schedule.max_frames_per_rank=1": ["other data", "(chunk_frames: saved 2, now 1)"],  # the clip is half done
        "parallel.clips_per_step=2": ["other data", "(clips_per_step: saved 1, now 2)"],
        "optim.precision=fp64": ["other networks", "(precision: saved 'fp32', now 'fp64')"],
    }.items():
        assert_one_line(*start("run.max_steps=2", override), *words)
        assert contents(here / "runs") == before


def test_changes_that_a_run_can_take_are_named(start: Train, here: Path) -> None:
    assert start("run.max_steps=1") == (0, "")
    assert start("run.max_steps=2", "optim.lr=1e-4", "optim.beta1=0.9", "run.save_every_steps=7") == (0, "")
    journal = (here / "runs/try/metrics.jsonl").read_text()
    for line in ("optim.lr: saved 0.0002, now 0.0001", "optim.beta1: saved 0.5, now 0.9",
                 "run.max_steps: saved 1, now 2", "run.save_every_steps: saved 1000, now 7"):
        assert f"changed since then: {line}" in journal
    assert journal.count("changed since then") == 4


def test_fresh_run_does_not_go_on(start: Train, here: Path) -> None:
    assert start("--fresh") == (0, "")
    before = contents(here / "runs")
    assert_one_line(*start("--fresh", "run.max_steps=2"), "--fresh: runs/try holds step_00000001; choose another")
    assert contents(here / "runs") == before


def test_damaged_checkpoint_is_refused(start: Train, here: Path) -> None:
    assert start() == (0, "")
    weights = here / "runs/try/checkpoints/step_00000001/image.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    before = contents(here / "runs")
    words = ["step_00000001 is damaged", "image.safetensors has", "no whole one before"]
    assert_one_line(*start("run.max_steps=2"), *words)
    assert_one_line(*start("run.name=fine", "run.load_pretrain=runs/try"), *words)
    assert contents(here / "runs") == before


def contents(folder: Path) -> dict[Path, bytes]:
    """What a start that is refused leaves as it was: all but the word of it."""
    return {path: path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name not in ("status.json", "lock")}


def assert_only_told(here: Path, said: str) -> None:
    """Where a run's folder was reached, its status says why; there is nothing else."""
    assert contents(here / "runs") == {}
    if (here / "runs").exists():
        told = json.loads((here / "runs/try/status.json").read_text())
        assert (told["status"], told["step"], told["restarts"]) == ("failed", 0, 0)
        assert told["why"].partition(": ")[2] in said


def test_process_refuses_a_key_that_does_not_exist(here: Path) -> None:
    result = process("run.max_step=3")
    assert_one_line(result.returncode, result.stderr, "unknown key run.max_step", "did you mean run.max_steps?")


def test_process_refuses_a_port_in_use(here: Path) -> None:
    """As where the batch system starts the ranks; torchrun itself takes the port before it starts ours."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = process(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    assert_one_line(result.returncode, result.stderr, f"port {port} on 127.0.0.1 is taken", "--standalone")
    assert [path.name for path in here.iterdir()] == ["shards"]


def test_process_alone_trains_without_torchrun(here: Path) -> None:
    result = process("optim.backend=zero")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads((here / "runs/try/status.json").read_text())["status"] == "finished"


def assert_told(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """One message and no other, on a line of its own and in torchrun's report; no traceback of ours."""
    assert result.returncode != 0
    lines = [line for line in result.stdout.splitlines() if "error: " in line]
    assert len({line[line.index("error: "):] for line in lines}) == 1
    assert 0 < sum("traceback :" in line for line in lines) < len(lines)
    for word in words:
        assert word in lines[0]
    assert 'launch/train.py", line' not in result.stdout


@pytest.mark.long
def test_torchrun_refuses_fewer_clips_than_ranks(here: Path) -> None:
    result = torchrun(2, "launch/train.py", *command("data.max_videos=1"), cwd=here)
    assert_told(result, "1 clips in shards for 2 at a time", "parallel.clips_per_step=1")
    assert_only_told(here, result.stdout)


def test_torchrun_reports_the_rank_that_failed(here: Path) -> None:
    """One rank meets a damaged frame while the other waits for it in a reduction."""
    spoil_picture(here / "shards", video=1)
    result = torchrun(2, "launch/train.py", *command("parallel.placement=data_parallel"), cwd=here)
    assert_told(result, "[rank 1] error: images of street0001/frame000002")
    outcome = json.loads((here / "runs/try/status.json").read_text())
    assert outcome["status"] == "failed"
    assert outcome["why"].startswith("rank 1: images of street0001/frame000002")


@pytest.mark.long
def test_the_one_rank_that_asks_for_tars_ends_all(here: Path) -> None:
    tar_of(here / "shards/train").unlink()
    result = torchrun(2, "launch/train.py", *command("parallel.placement=data_parallel"), cwd=here)
    assert_told(result, ".tar is missing: run `vid2vid-shards")
