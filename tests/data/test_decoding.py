"""Decoding in processes: the same frames, errors in their own words, and what ends a process or outlives a program."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from tests.conftest import ROOT
from tests.damage import tar_of
from tests.torchrun import wait_until
from tests.training.conftest import SMALL
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data import workers
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.data.decoding import SIGNALS, Decoders
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.errors import UserError
from vid2vid_dist.network_input import FrameLoader
from vid2vid_dist.toy.face import render_toy_face
from vid2vid_dist.toy.set import ToyOptions


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Shards of a toy face, 96x72."""
    here = tmp_path_factory.mktemp("face")
    render_toy_face(here / "raw", ToyOptions(n_train=2, n_test=1, n_frames=5, width=96, height=72))
    make_shards(here / "raw", here / "shards", PackOptions(task="face"))
    return DataConfig(shards=str(here / "shards"), task="face", label_nc=0, input_nc=15, loadSize=64)


@pytest.fixture(scope="module")
def decoders(data: DataConfig) -> Decoders:
    return in_processes(data)


def in_processes(data: DataConfig) -> Decoders:
    source = ClipSource(data, 3, 0)
    assert source.task.in_python
    return Decoders(FrameLoader(source), 1, source.task.in_python)


def requests(data: DataConfig) -> list[Request]:
    source = ClipSource(data, 3, 0)
    clips = [source.clip(epoch, number, 3, 1) for epoch in range(2) for number in range(2)]
    return [replace(Request.span(clip, first, 2), flows=[(first + 1, 1)]) for clip in clips for first in (0, 1)]


def tensors(frames: Frames) -> list[Tensor]:
    assert frames.images is not None
    assert frames.flows is not None
    return [frames.labels, frames.images, frames.flows]


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_processes_draw_the_same(data: DataConfig, decoders: Decoders) -> None:
    wanted = requests(data)
    alone = map(FrameLoader(ClipSource(data, 3, 0)).load, wanted)
    for a, b in zip(alone, decoders.stream(wanted), strict=True):
        assert a.names == b.names
        assert all(x.equal(y) for x, y in zip(tensors(a), tensors(b), strict=True))


def test_what_cannot_be_asked_for_is_told_in_its_turn(data: DataConfig, decoders: Decoders) -> None:
    def asked() -> Iterator[Request]:
        yield from requests(data)[:2]
        raise UserError("the third clip cannot be cut")

    stream = decoders.stream(asked())
    assert len([next(stream), next(stream)]) == 2
    with pytest.raises(UserError, match="third"):
        next(stream)


def test_a_stream_that_is_dropped_leaves_the_processes_for_the_next(data: DataConfig, decoders: Decoders) -> None:
    first = decoders.stream(requests(data))
    next(first)
    first.close()
    assert len(list(decoders.stream(requests(data)[:2]))) == 2


def test_signals_of_the_job_do_not_end_them(data: DataConfig, decoders: Decoders) -> None:
    list(decoders.stream(requests(data)[:1]))
    for child in multiprocessing.active_children():
        for number in (signal.SIGINT, *SIGNALS):
            assert child.pid is not None
            os.kill(child.pid, number)
    assert len(list(decoders.stream(requests(data)[:2]))) == 2


def test_an_error_arrives_in_its_own_words(data: DataConfig, tmp_path: Path) -> None:
    shutil.copytree(data.shards, tmp_path / "copy")
    spoilt = replace(data, shards=str(tmp_path / "copy"))
    decoders = in_processes(spoilt)
    tar = tar_of(tmp_path / "copy/train")
    tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(UserError, match=r"frame000000 in .*differ from the index"):
        next(decoders.stream(requests(data)))


def test_shards_packed_again_are_refused(data: DataConfig, tmp_path: Path) -> None:
    render_toy_face(tmp_path / "raw", ToyOptions(n_train=1, n_test=1, n_frames=5, width=96, height=72, seed=9))
    make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(task="face"))
    source = ClipSource(data, 3, 0)
    source.data = replace(data, shards=str(tmp_path / "shards"))  # as it is for a process that opens them later
    with pytest.raises(UserError, match="was packed again after"):
        next(Decoders(source, 1, in_processes=True).stream(requests(data)))


def test_too_little_shared_memory_is_told() -> None:
    room = os.statvfs("/dev/shm")
    workers.require_shared_memory(room.f_bavail * room.f_frsize // 4, "nothing")
    with pytest.raises(UserError, match=r"/dev/shm.*is full: .*--shm-size.* or use data\.workers=0"):
        workers.require_shared_memory(room.f_bavail * room.f_frsize, "data.workers=0")


def program(data: DataConfig, folder: Path, ends: str, **environment: str) -> subprocess.Popen[str]:
    """One that decodes a first frame, says so, and ends."""
    script = folder / "program.py"
    script.write_text(f"""
import time
from tests.data.test_decoding import DataConfig, in_processes, requests
from vid2vid_dist.cli.entry import run_main
def main():
    data = {data!r}
    decoders = in_processes(data)
    next(decoders.stream(requests(data)))
    print("decodes", flush=True)
    {ends}
if __name__ == "__main__":
    run_main(main)
""")
    return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            cwd=ROOT, env=os.environ | environment | {"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("environment", [{}, {"RANK": "0"}], ids=["alone", "rank"])
def test_nothing_is_left_of_them(data: DataConfig, tmp_path: Path, environment: dict[str, str]) -> None:
    ended = program(data, tmp_path, "pass", **environment)
    assert ended.communicate(timeout=100) == ("decodes\n", "")
    assert ended.returncode == 0


def test_they_end_with_a_program_that_is_killed(data: DataConfig, tmp_path: Path) -> None:
    killed = program(data, tmp_path, "time.sleep(600)")
    assert killed.stdout is not None
    assert killed.stdout.readline() == "decodes\n"
    begun = children(killed.pid)
    assert begun
    killed.kill()
    killed.wait()
    deadline = time.monotonic() + 20
    while any(Path("/proc", child, "exe").exists() for child in begun):  # what is no zombie has one
        assert time.monotonic() < deadline, begun
        time.sleep(0.1)


@pytest.mark.fault("A run ends", "a process that decodes faces or poses is killed (the kernel's, for want of memory)",
                   '"failed", says to lower `data.workers`', "steps since the last checkpoint")
def test_a_run_whose_decoder_is_killed_says_so(data: DataConfig, tmp_path: Path) -> None:
    settings = [option for option in SMALL if not option.startswith("data.workers")]
    run = subprocess.Popen(
        [sys.executable, "launch/train.py", "toy/face", *settings, "data.workers=3", f"data.shards={data.shards}",
         "parallel.placement=data_parallel", f"run.root={tmp_path}", "run.name=face", "schedule.niter=1000",
         "data.max_faults=5"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (tmp_path / "face/metrics.jsonl").is_file())
    decoders = [pid for pid in children(run.pid) if "spawn_main" in Path("/proc", pid, "cmdline").read_text()]
    assert len(decoders) == 3
    os.kill(int(decoders[1]), signal.SIGKILL)  # the others wait for work
    _, told = run.communicate(timeout=100)
    assert run.returncode == 2
    assert "error: a process that decodes frames was ended (killed, for want of memory?): lower data.workers" in told
    assert json.loads((tmp_path / "face/status.json").read_text())["status"] == "failed"
