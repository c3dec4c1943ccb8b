"""A shard folder: access to one frame, and every kind of damage."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.errors import UserError


@pytest.fixture
def folder(toy_shards: Path, tmp_path: Path) -> Path:
    """A copy of a shard folder to damage."""
    return Path(shutil.copytree(toy_shards / "train", tmp_path / "train"))


def test_one_frame_is_read_without_the_rest(folder: Path) -> None:
    index = ShardIndex(folder)
    before = _bytes_read()
    data = index.read(2, "labels", 5)
    assert data.startswith(b"\x89PNG")
    assert _bytes_read() - before < len(data) + 1000 < (folder / "shard-000000.tar").stat().st_size / 20


def _bytes_read() -> int:
    """What this process has read through system calls so far."""
    line = next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar"))
    return int(line.split()[1])


def _edit(folder: Path, change: Callable[[dict], object]) -> None:
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))


def _truncate(folder: Path) -> None:
    os.truncate(folder / "shard-000000.tar", 5000)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "no shards at .*make shards"),
        (lambda f: (f / "index.json").unlink(), "tars but no index.json"),
        (lambda f: (f / "index.json").write_text("{"), "not JSON"),
        (lambda f: (f / "index.json").write_text("{}"), "another program"),
        (lambda f: _edit(f, lambda i: i.update(version=99)), "format version 99"),
        (lambda f: _edit(f, lambda i: i.pop("videos")), "index.json is damaged"),
        (lambda f: _edit(f, lambda i: i.update(videos=[])), "index.json is damaged"),
        (lambda f: _edit(f, lambda i: i["videos"][0]["frames"].pop()), "index.json is damaged"),
        (
            lambda f: _edit(f, lambda i: i["videos"][0]["entries"]["labels"][0].__setitem__(2, 1 << 40)),
            "frames of street0000",
        ),
        (lambda f: _edit(f, lambda i: i["shards"][0].__setitem__(0, "../x.tar")), r"index\.json is damaged"),
        (lambda f: (f / "shard-000000.tar").unlink(), r"shard .*shard-000000\.tar is missing"),
        (_truncate, r"shard-000000\.tar has 5000 bytes, the index says"),
    ],
)
def test_damaged_folder_is_refused(folder: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=words):
        ShardIndex(folder)


def test_foreign_bytes_are_noticed_when_read(folder: Path) -> None:
    index = ShardIndex(folder)
    entry = index.videos[1].entries["images"][3]
    with (folder / "shard-000000.tar").open("r+b") as tar:
        tar.seek(entry.offset + entry.size // 2)
        tar.write(b"\0\1\2\3")
    index.read(1, "images", 2)
    with pytest.raises(UserError, match=r"images of street0001/frame000003 in .*differ from the index"):
        index.read(1, "images", 3)


def test_vanished_shard_is_named_when_read(folder: Path) -> None:
    index = ShardIndex(folder)
    (folder / "shard-000000.tar").unlink()
    with pytest.raises(UserError, match=r"labels of street0000/frame000000 .*cannot be read"):
        index.read(0, "labels", 0)
