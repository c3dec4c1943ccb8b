"""Packing by many processes, parts and runs that are killed: one set, always whole, the same bytes each time."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.damage import as_version_1, tar_of
from vid2vid_dist.data import packing, shards
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.verify import verify_shards
from vid2vid_dist.errors import UserError


@pytest.fixture
def small_tars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some frames each."""
    monkeypatch.setattr(packing, "TAR_BYTES", 10_000)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by their place."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stamps(folder: Path) -> dict[str, int]:
    """When each tar was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}


@pytest.mark.parametrize("width", [None, 32])
@pytest.mark.usefixtures("small_tars")
def test_any_number_of_workers_and_parts_makes_the_same_bytes(raw: Path, tmp_path: Path, width: int | None) -> None:
    options = PackOptions(width)
    make_shards(raw, tmp_path / "one", options)
    make_shards(raw, tmp_path / "three", options, workers=3)
    for i in (2, 3, 1):
        assert make_shards(raw, tmp_path / "parts", options, part=(i, 3)) != []
        assert not (tmp_path / "parts/train/index.json").exists()
    before = stamps(tmp_path / "parts/train")
    make_shards(raw, tmp_path / "parts", options)
    assert stamps(tmp_path / "parts/train") == before, "joining packs nothing again"
    assert contents(tmp_path / "one") == contents(tmp_path / "three") == contents(tmp_path / "parts")


@pytest.mark.usefixtures("small_tars")
def test_first_bad_file_is_named_whoever_finds_it(raw: Path, tmp_path: Path) -> None:
    for name in ("a/a.frame001", "b/b.frame005"):
        (raw / f"train_B/{name}.jpg").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"a\.frame001\.jpg: unreadable"):
        make_shards(raw, tmp_path / "out", PackOptions(), workers=3)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("small_tars")
def test_a_worker_that_the_system_kills_is_told(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "pack_tar", die)
    with pytest.raises(UserError, match="a worker was killed"):
        make_shards(raw, tmp_path / "out", PackOptions(), workers=2)
    monkeypatch.undo()
    assert "2 videos" in make_shards(raw, tmp_path / "out", PackOptions(), workers=2)[0]


@pytest.mark.usefixtures("small_tars")
def test_a_mended_file_packs_its_tar_again_and_no_other(raw: Path, tmp_path: Path) -> None:
    bad = raw / "train_B/b/b.frame005.jpg"
    good = bad.read_bytes()
    bad.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"b\.frame005\.jpg: unreadable"):
        make_shards(raw, tmp_path / "out", PackOptions())
    before = stamps(tmp_path / "out/train")
    assert len(before) > 1
    bad.write_bytes(good)
    make_shards(raw, tmp_path / "out", PackOptions())
    after = stamps(tmp_path / "out/train")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1


@pytest.mark.parametrize("what", ["size", "kind"])
@pytest.mark.usefixtures("small_tars")
def test_frames_of_two_tars_contradict_each_other(raw: Path, tmp_path: Path, what: str) -> None:
    if what == "size":
        for path in raw.glob("*/b/b.frame004.*"):
            Image.open(path).resize((48, 24), 0).save(path)
        words = r"train_A/b/b\.frame004\.png: size 48x24 differs from the first frame of its video \(40x24\)"
    else:
        Image.new("RGB", (40, 24)).save(raw / "train_A/b/b.frame004.png")
        words = r"b\.frame004\.png is rgb but .*\.png is ids"
    with pytest.raises(UserError, match=words):
        make_shards(raw, tmp_path / "out", PackOptions(), workers=2)


@pytest.mark.usefixtures("small_tars")
def test_damage_of_equal_size_is_found_and_mended(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_shards(raw, out, PackOptions())
    assert "shards are as they were packed" in verify_shards(out, workers=2)[0]
    whole, before = contents(out), stamps(out / "train")
    tar = tar_of(out / "train", 1)
    with tar.open("r+b") as file:
        file.seek(600)
        file.write(b"\0\1\2\3")
    assert "up to date" in make_shards(raw, out, PackOptions())[0]
    with pytest.raises(UserError, match=rf"1 damaged: .*{tar.name}: run"):
        verify_shards(out)
    make_shards(raw, out, PackOptions())
    after = stamps(out / "train")
    assert contents(out) == whole
    assert {name for name in after if after[name] != before[name]} == {tar.name}
    (columns,) = (out / "train").glob("columns-*")
    columns.write_bytes(columns.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=rf"1 damaged: .*{columns.name}: run"):
        verify_shards(out)
    make_shards(raw, out, PackOptions())
    assert contents(out) == whole


def test_the_command_packs_parts_and_verifies(raw: Path, tmp_path: Path) -> None:
    def make(*arguments: str) -> str:
        command = ["make", "--no-print-directory", "shards", f"OUT={tmp_path}/out", *arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.stdout

    assert "part 1 of 2: 1 of 1 shards" in make(f"SRC={raw}", "PART=1/2")
    assert "2 videos, 10 frames, 1 shards" in make(f"SRC={raw}", "WORKERS=2")
    assert "1 shards are as they were packed" in make("VERIFY=1")
    tar_of(tmp_path / "out/train").write_bytes(b"")
    assert "error: 1 damaged" in make("VERIFY=1")


def test_sets_of_version_1_cannot_be_verified_and_are_packed_again(raw: Path, tmp_path: Path) -> None:
    make_shards(raw, tmp_path / "out", PackOptions())
    whole = contents(tmp_path / "out")
    as_version_1(tmp_path / "out/train")
    with pytest.raises(UserError, match="packed by an earlier version"):
        verify_shards(tmp_path / "out")
    make_shards(raw, tmp_path / "out", PackOptions())
    assert contents(tmp_path / "out") == whole
    with pytest.raises(UserError, match="no shards at"):
        verify_shards(tmp_path / "nowhere")


def pack(source: Path, out: Path) -> None:
    """In a process that may be killed."""
    packing.TAR_BYTES = 30_000
    make_shards(source, out, PackOptions(width=64), workers=2)


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    """Two sources of other pictures and lengths, some tars each."""
    rng = np.random.default_rng(0)
    for source, n_frames in (("old", 24), ("new", 30)):
        for i in range(n_frames):
            for folder, shape in (("A", (64, 128)), ("B", (64, 128, 3))):
                path = tmp_path / f"{source}/train_{folder}/{'ab'[i % 2]}/{i:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 30, shape, np.uint8)).save(path)
    return tmp_path / "old", tmp_path / "new"


@pytest.mark.parametrize("n_kills", [3, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_a_killed_run_leaves_a_set_in_force(sources: tuple[Path, Path], tmp_path: Path, n_kills: int) -> None:
    """Each kill falls into a run that replaces one set by another; some runs go on where the last was killed."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["vid2vid_dist.data.shards"])

    def start(source: Path, out: Path) -> Any:
        process = server.Process(target=pack, args=(source, out))
        process.start()
        return process

    def finish(source: Path, out: Path) -> dict[str, bytes]:
        process = start(source, out)
        process.join()
        assert process.exitcode == 0
        return contents(out / "train")

    whole, seconds, rng = {}, 0.0, random.Random(0)
    for source in (sources[0], *sources):  # the first one waits for the server
        began = time.monotonic()
        whole[source] = finish(source, tmp_path / f"out_{source.name}")
        seconds = time.monotonic() - began
    hashes = {ShardIndex(tmp_path / f"out_{source.name}/train").hash for source in sources}
    out = tmp_path / "out"
    shutil.copytree(tmp_path / "out_old", out)
    force, source, killed = sources[0], sources[1], 0
    while killed < n_kills:
        process = start(source, out)
        time.sleep(rng.uniform(0, seconds))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        index = ShardIndex(out / "train")
        assert index.hash in hashes
        for video in range(2):
            for modality in ("labels", "images"):
                index.read(video, modality, len(index.videos[video].frames) - 1)
        if rng.random() < 0.4:
            continue
        assert finish(source, out) == whole[source]
        force, source = source, force
    assert finish(source, out) == whole[source]
