"""Shards in a store of objects: what is read is what was packed, or it is said; over real servers with real faults."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.damage import tar_of
from tests.data.servers import RangeServer, now_and_then, range_server
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data import http, remote
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.remote import Cache, RemoteStore
from vid2vid_dist.data.store import open_store
from vid2vid_dist.errors import UserError


@pytest.fixture
def server(toy_shards: Path, tmp_path: Path) -> Iterator[RangeServer]:
    """A copy of the toy shards."""
    shutil.copytree(toy_shards, tmp_path / "www")
    with range_server(tmp_path / "www") as server:
        yield server


@pytest.fixture
def open_index(server: RangeServer, tmp_path: Path) -> Callable[[], ShardIndex]:
    """Opens the training split as another rank would; all have one cache."""
    def make(**options: object) -> ShardIndex:
        data = DataConfig(**{"shards": server.url, "cache": str(tmp_path / "cache"), **options})
        return ShardIndex(open_store(data, "train"))

    return make


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_DELAY", 0.01)


def contents(index: ShardIndex) -> list[bytes]:
    """Every file of a split, by some threads at once."""
    asked = [(video, modality, frame) for video in range(len(index.videos)) for modality in sorted(index.modalities)
             for frame in range(int(index.lengths[video]))]
    with ThreadPoolExecutor(4) as pool:
        return [*pool.map(lambda which: index.read(*which), asked)]


def test_only_what_is_read_is_fetched_and_only_once(
        server: RangeServer, open_index: Callable[[], ShardIndex], toy_shards: Path) -> None:
    one, two = open_index(), open_index()
    assert server.asked["index.json"] == 3, "the second rank only asks whether it has changed"
    tar = tar_of(server.root / "train").name
    before, n_bytes = server.asked[tar], server.n_bytes
    data = one.read(2, "labels", 5)
    assert data == ShardIndex(toy_shards / "train").read(2, "labels", 5)
    assert (server.asked[tar], server.n_bytes) == (before + 1, n_bytes + len(data))
    assert two.read(2, "labels", 5) == one.read(2, "labels", 5) == data
    assert server.asked[tar] == before + 1


@pytest.mark.parametrize("fault", ["503", "cut", "reset", "slow", "spoiled"])
def test_faults_that_pass_are_waited_out(fault: str, server: RangeServer, open_index: Callable[[], ShardIndex],
                                         toy_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", 0.3)
    index = open_index()
    fails = iter([fault] * (1 if fault == "spoiled" else 3))
    server.fault = lambda path: next(fails, "")
    local = ShardIndex(toy_shards / "train")
    for frame in range(3):
        assert index.read(0, "images", frame) == local.read(0, "images", frame)
    assert next(fails, None) is None, "all faults have happened"


def test_no_fault_reaches_what_is_read(server: RangeServer, open_index: Callable[[], ShardIndex], toy_shards: Path
                                       ) -> None:
    server.fault = now_and_then("503", "429", "cut", "reset")
    assert contents(open_index()) == contents(ShardIndex(toy_shards / "train"))


def test_faults_that_stay_end_with_a_word(server: RangeServer, open_index: Callable[[], ShardIndex],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ATTEMPTS", 3)
    index = open_index()
    server.fault = lambda path: "503"
    with pytest.raises(UserError, match=r"shard-000000-\w+\.tar cannot be read \(ConnectionError: HTTP 503\) after 3"):
        index.read(0, "images", 0)


def test_attempts_wait_longer_each_and_not_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(remote, "FIRST_DELAY", 0.25)
    slept = [[], []]
    for ours in slept:
        monkeypatch.setattr(time, "sleep", ours.append)
        store = RemoteStore("http://127.0.0.1:1/x", DataConfig(cache=str(tmp_path)))
        with pytest.raises(UserError, match=r"after 8 attempts"):
            store.file("index.json")
    assert slept[0] != slept[1]
    for ours in slept:
        assert all(0.5 <= wait / min(16, 0.25 * 2**i) <= 1 for i, wait in enumerate(ours))


def test_a_slow_answer_has_a_limit(server: RangeServer, open_index: Callable[[], ShardIndex],
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", 0.3)
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    index = open_index()
    server.fault = lambda path: "slow"
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"timed out|bytes in"):
        index.read(0, "images", 0)
    assert time.monotonic() - begin < 3


def test_an_answer_in_drops_has_the_same_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(http, "PIECE", 64)
    (tmp_path / "file").write_bytes(bytes(10_000))
    with range_server(tmp_path) as server:
        client = http.Http(server.url, 0.2)
        until = iter([0.0, *[10.0] * 10])
        monkeypatch.setattr(time, "monotonic", lambda: next(until))
        with pytest.raises(TimeoutError, match=r"64 of 10000 bytes in 0.2 s"):
            client.read("file", 0, 10_000)


def _rewrite(folder: Path, change: Callable[[bytes], bytes]) -> None:
    tar = tar_of(folder)
    tar.write_bytes(change(tar.read_bytes()))


@pytest.mark.parametrize(("change", "words"), [
    (lambda folder: shutil.rmtree(folder), "no shards at http://.*/train: run `vid2vid-shards"),
    (lambda folder: (folder / "index.json").write_text("{"), "train/index.json is damaged"),
    (lambda folder: tar_of(folder).unlink(), r"train/shard-000000-\w+\.tar is missing: copy the packed folder there"),
    (lambda folder: _rewrite(folder, lambda data: data[:-512]), r"has \d+ bytes, the index says \d+"),
    (lambda folder: next(folder.glob("columns-*")).unlink(), "index.json is damaged .*No such file"),
])
def test_what_is_missing_or_of_another_size_is_said_before_training(
        change: Callable[[Path], object], words: str, server: RangeServer, open_index: Callable[[], ShardIndex]
        ) -> None:
    change(server.root / "train")
    with pytest.raises(UserError, match=words):
        open_index()


def test_an_object_of_other_bytes_is_said(server: RangeServer, open_index: Callable[[], ShardIndex]) -> None:
    _rewrite(server.root / "train", lambda data: bytes(len(data)))
    with pytest.raises(UserError, match=r"the bytes differ from the index.* after 2 attempts"):
        open_index().read(0, "images", 0)


def test_an_object_that_changes_while_it_is_read_is_said(server: RangeServer, open_index: Callable[[], ShardIndex]
                                                         ) -> None:
    index = open_index()
    _rewrite(server.root / "train", lambda data: bytes(len(data)))
    with pytest.raises(UserError, match=r"has changed since this run looked at it first"):
        index.read(0, "images", 0)
    tar_of(server.root / "train").unlink()
    with pytest.raises(UserError, match=r"is missing"):
        index.read(1, "images", 0)


def test_a_new_set_at_the_address_is_seen(server: RangeServer, open_index: Callable[[], ShardIndex]) -> None:
    before = contents(open_index())
    shutil.rmtree(server.root / "train")
    shutil.copytree(server.root / "test", server.root / "train")
    assert contents(open_index()) != before


def test_a_server_without_ranges_is_refused(server: RangeServer, open_index: Callable[[], ShardIndex]) -> None:
    server.ranges = False
    with pytest.raises(UserError, match=r"gives whole files only"):
        open_index()


def test_what_may_not_be_read_is_said(server: RangeServer, open_index: Callable[[], ShardIndex]) -> None:
    server.fault = lambda path: "403"
    with pytest.raises(UserError, match=r"not to be read by you .*credentials"):
        open_index()


@pytest.mark.parametrize("shards", ["s3://key:SECRET@bucket/mine", "https://host/mine?sig=SECRET", "http://SECRET@host",
                                    "https://host/a#SECRET", "https://[SECRET/"])
def test_secrets_in_an_address_are_refused_and_not_repeated(shards: str) -> None:
    with pytest.raises(UserError, match=r"data.shards") as error:
        open_store(DataConfig(shards=shards), "train")
    assert "SECRET" not in str(error.value)


def test_a_redirect_is_followed_and_its_address_not_told(server: RangeServer, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    ask = http.Http._ask

    def redirected(self: http.Http, url: str, start: int, end: int) -> tuple:
        if "SECRET" in url:
            return ask(self, url.partition("?")[0], start, end)
        return 302, {"Location": f"{url}?token=SECRET"}, b""

    monkeypatch.setattr(http.Http, "_ask", redirected)
    data = DataConfig(shards=server.url, cache=str(tmp_path / "cache"))
    index = ShardIndex(open_store(data, "train"))
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    server.fault = lambda path: "500"
    with pytest.raises(UserError, match=r"HTTP 500") as error:
        index.read(0, "images", 0)
    assert "SECRET" not in str(error.value)


def test_a_file_of_the_cache_that_was_torn_is_fetched_again(server: RangeServer, open_index: Callable[[], ShardIndex],
                                                            tmp_path: Path) -> None:
    index = open_index()
    data = index.read(0, "images", 0)
    for path in (tmp_path / "cache").glob("*/*"):
        if path.stat().st_size == len(data) + remote.CHECK_BYTES:
            os.truncate(path, len(data) // 2)
    asked = sum(server.asked.values())
    assert index.read(0, "images", 0) == data
    assert sum(server.asked.values()) == asked + 1


def test_a_full_disk_only_slows(server: RangeServer, open_index: Callable[[], ShardIndex], toy_shards: Path,
                                monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    index = open_index()

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(remote.tempfile, "mkstemp", full)
    assert index.read(0, "images", 0) == ShardIndex(toy_shards / "train").read(0, "images", 0)
    assert "No space left on device" in caplog.text


def test_a_cache_that_cannot_be_used_is_said(tmp_path: Path, server: RangeServer) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"set data.cache to a folder"):
        open_store(DataConfig(shards=server.url, cache=str(tmp_path / "file")), "train")


FILL = """
import random, sys
from pathlib import Path
from vid2vid_dist.data.remote import Cache

cache, dice = Cache(Path(sys.argv[1]), 2_000_000), random.Random(int(sys.argv[2]))
while True:
    number = dice.randrange(1000)
    path, data = cache.path(str(number)), bytes([number % 256]) * 10_000
    found = cache.get(path)
    assert found in (None, data), number
    if found is None:
        cache.put(path, data)
    print(number, flush=True)
"""


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # left out of the cache meanwhile
        return 0


def test_processes_share_a_cache_that_stays_small_whoever_is_killed(tmp_path: Path) -> None:
    jobs = [subprocess.Popen([sys.executable, "-c", FILL, str(tmp_path), str(seed)], stdout=subprocess.PIPE, cwd=ROOT,
                             env={**os.environ, "PYTHONPATH": str(ROOT)}) for seed in range(3)]
    largest = 0
    for i in range(600):  # 1000 entries do not fit into the limit
        for job in jobs:
            assert job.stdout is not None
            assert job.stdout.readline()
        if i % 20 == 0:
            largest = max(largest, sum(size_of(path) for path in tmp_path.glob("*/*")))
    for job in jobs:
        assert job.poll() is None
        job.send_signal(signal.SIGKILL)
        job.wait()
    assert 1_000_000 < largest <= 2_000_000
    after = Cache(tmp_path, 2_000_000)
    found = [after.get(after.path(str(number))) for number in range(1000)]
    assert sum(data is not None for data in found) > 50
    assert all(data in (None, bytes([number % 256]) * 10_000) for number, data in enumerate(found))
