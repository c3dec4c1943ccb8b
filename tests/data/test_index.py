"""A shard folder: access to one frame, and every kind of damage."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.damage import as_version_1, edit_index, tar_of
from vid2vid_dist.data import packing
from vid2vid_dist.data import store as data_store
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.store import content_hash
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
    assert _bytes_read() - before < len(data) + 1000 < tar_of(folder).stat().st_size / 20


def test_an_index_that_is_written_anew_while_it_is_in_use(folder: Path) -> None:
    """As by a copy over it, which cuts the file first: what is mapped would end the process."""
    index = ShardIndex(folder)
    (file,) = folder.glob("columns-*")
    os.truncate(file, 0)
    assert index.read(2, "labels", 5).startswith(b"\x89PNG")
    assert index.videos[2].frames[5] == "frame000005"


def _bytes_read() -> int:
    """What this process has read through system calls so far."""
    line = next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar"))
    return int(line.split()[1])


def _edit(folder: Path, change: Callable[[dict], object]) -> None:
    """The index of version 2."""
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))


def _edit_1(folder: Path, change: Callable[[dict], object]) -> None:
    edit_index(folder.parent, change)


def _truncate(folder: Path) -> None:
    os.truncate(tar_of(folder), 5000)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "no shards at .*vid2vid-shards"),
        (lambda f: (f / "index.json").unlink(), "tars but no index.json"),
        (lambda f: (f / "index.json").write_text("{"), "not JSON"),
        (lambda f: (f / "index.json").write_text("{}"), "another program"),
        (lambda f: _edit(f, lambda i: i.update(version=99)), "format version 99"),
        (lambda f: _edit_1(f, lambda i: i.pop("videos")), "index.json is damaged"),
        (lambda f: _edit_1(f, lambda i: i.update(videos=[])), "index.json is damaged"),
        (lambda f: _edit_1(f, lambda i: i["videos"][0]["frames"].pop()), "index.json is damaged"),
        (
            lambda f: _edit_1(f, lambda i: i["videos"][0]["entries"]["labels"][0].__setitem__(2, 1 << 40)),
            "frames of street0000",
        ),
        (lambda f: _edit_1(f, lambda i: i["shards"][0].__setitem__(0, "../x.tar")), r"index\.json is damaged"),
        (lambda f: _edit(f, lambda i: i.pop("counts")), "index.json is damaged"),
        (lambda f: _edit(f, lambda i: i["counts"].update(videos=1)), r"columns-\w+\.bin has \d+ bytes instead of"),
        (lambda f: _edit(f, lambda i: i["counts"].update(frames=2**70)), "'counts'"),
        (lambda f: _edit(f, lambda i: i.update(columns="../columns.bin")), "'columns'"),
        (lambda f: next(f.glob("columns-*")).unlink(), "No such file"),
        (lambda f: os.truncate(next(f.glob("columns-*")), 100), r"columns-\w+\.bin has 100 bytes instead of"),
        (lambda f: _edit(f, lambda i: i["shards"][0].__setitem__(0, "../x.tar")), r"index\.json is damaged"),
        (lambda f: tar_of(f).unlink(), r"shard .*shard-000000-\w+\.tar is missing"),
        (_truncate, r"shard-000000-\w+\.tar has 5000 bytes, the index says"),
    ],
)
def test_damaged_folder_is_refused(folder: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=words):
        ShardIndex(folder)


def test_foreign_bytes_are_noticed_when_read(folder: Path) -> None:
    index = ShardIndex(folder)
    entry = index.entry(1, "images", 3)
    with tar_of(folder).open("r+b") as tar:
        tar.seek(entry.offset + entry.size // 2)
        tar.write(b"\0\1\2\3")
    index.read(1, "images", 2)
    with pytest.raises(UserError, match=r"images of street0001/frame000003 in .*differ from the index"):
        index.read(1, "images", 3)


def test_vanished_shard_is_named_when_read(folder: Path) -> None:
    index = ShardIndex(folder)
    tar_of(folder).unlink()
    with pytest.raises(UserError, match=r"labels of street0000/frame000000 .*cannot be read"):
        index.read(0, "labels", 0)


def test_first_version_holds_the_same(folder: Path) -> None:
    """And its hash, by which runs know their data, is of the same text."""
    index, raw = ShardIndex(folder), json.loads((folder / "index.json").read_text())
    old = json.loads(as_version_1(folder).read_text())["videos"]
    again = ShardIndex(folder)
    hashes = {}
    for number, (video, other) in enumerate(zip(index.videos, again.videos, strict=True)):
        assert (video.name, video.size, [*video.frames]) == (other.name, other.size, [*other.frames])
        for i in range(len(video.frames)):
            for modality in raw["modalities"]:
                assert index.read(number, modality, i) == again.read(number, modality, i)
                name = f"{number:05d}-{video.name}/{i:06d}.{modality}.png"
                hashes[name] = content_hash(again.read(number, modality, i))
    said = [raw["input_kind"], [video["size"] for video in old], [video["frames"] for video in old], hashes]
    assert index.hash == again.hash == hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()


def test_few_tars_stay_open(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "TAR_BYTES", 1)
    monkeypatch.setattr(data_store, "OPEN_TARS", 3)
    make_shards(raw, tmp_path / "out", PackOptions())
    index = ShardIndex(tmp_path / "out/train")

    def n_open() -> int:
        links = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if os.path.islink(path))
        return sum(link.startswith(str(tmp_path)) and link.endswith(".tar") for link in links)

    assert (len(index.shards), n_open()) == (10, 0)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            list(pool.map(partial(index.read, 1, "images"), range(6)))
    assert n_open() == 3
    del index
    assert n_open() == 0


def test_a_rank_that_asks_for_no_sizes_finds_a_short_tar_when_it_opens_it(folder: Path) -> None:
    _truncate(folder)
    index = ShardIndex(folder, check_tars=False)
    with pytest.raises(UserError, match="has 5000 bytes, the index says"):
        index.read(0, "labels", 0)


def test_a_tar_stays_open_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that the cache does not keep: of two threads that open a tar at once, it keeps that of one."""
    index = ShardIndex(folder)
    expected = index.read(0, "labels", 0)
    monkeypatch.setattr(index._store, "_tar", index._store._tar.__wrapped__)
    assert index.read(0, "labels", 0) == expected


@pytest.mark.parametrize("named", ["", "shard-000000.tar", "shard-{000000..000001}.tar"])
def test_a_split_or_its_tars_are_not_the_shards(folder: Path, named: str) -> None:
    with pytest.raises(UserError, match=f"is of one split: name the folder of all splits, {folder.parent}$"):
        ShardIndex(folder / named / "train")
