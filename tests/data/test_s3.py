"""Shards in S3: moto's server on loopback, with the real client."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("s3fs", reason="pip install 'vid2vid-dist[dev-s3]': s3fs")
pytest.importorskip("moto.server", reason="pip install 'vid2vid-dist[dev-s3]': moto[server]")

import boto3
import s3fs
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests.data.servers import now_and_then
from tests.data.test_remote import contents
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data import remote
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.store import open_store
from vid2vid_dist.errors import UserError


class S3:
    """A server with a bucket `mine`; `fault` says of each request for an object what status it gets instead."""

    def __init__(self) -> None:
        self.fault = lambda path: ""
        moto = DomainDispatcherApplication(create_backend_app)

        def app(environment: dict, start: object) -> object:
            if environment["REQUEST_METHOD"] == "GET" and (status := self.fault(environment["PATH_INFO"])):
                start(f"{status} Slow Down", [("Content-Length", "0")])
                return [b""]
            return moto(environment, start)

        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.client = boto3.client("s3", endpoint_url=self.url)
        self.client.create_bucket(Bucket="mine")

    def put(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file() and ".packed" not in path.parts:
                self.client.upload_file(str(path), "mine", f"sets/toy/{path.relative_to(folder)}")

    def stop(self) -> None:
        self._server.shutdown()


@pytest.fixture
def s3(toy_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    for name, value in (("ACCESS_KEY_ID", "SECRET-id"), ("SECRET_ACCESS_KEY", "SECRET-key"),
                        ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(remote, "FIRST_DELAY", 0.01)
    server = S3()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.put(toy_shards)
    s3fs.S3FileSystem.clear_instance_cache()
    yield server
    server.stop()


def open_index(tmp_path: Path, shards: str = "s3://mine/sets/toy") -> ShardIndex:
    return ShardIndex(open_store(DataConfig(shards=shards, cache=str(tmp_path / "cache")), "train"))


def test_all_is_as_on_disk(s3: S3, tmp_path: Path, toy_shards: Path) -> None:
    index, local = open_index(tmp_path), ShardIndex(toy_shards / "train")
    s3.fault = now_and_then("503", "500", share=0.1)
    assert contents(index) == contents(local)
    assert (index.hash, index.folder) == (local.hash, "s3://mine/sets/toy/train")
    s3.stop()
    assert contents(index) == contents(local), "from the cache"


def test_what_is_missing_or_has_changed_is_said(s3: S3, tmp_path: Path,
                                                capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture) -> None:
    index = open_index(tmp_path)
    key = f"sets/toy/train/{index.shards[0].name}"
    s3.client.put_object(Bucket="mine", Key=key, Body=bytes(index.shards[0].size))
    said = []
    for what, words in ((lambda: index.read(0, "images", 0), "has changed since this run"),
                        (lambda: open_index(tmp_path).read(0, "images", 0), "the bytes differ from the index"),
                        (lambda: s3.client.delete_object(Bucket="mine", Key=key) and open_index(tmp_path), "missing"),
                        (lambda: open_index(tmp_path, "s3://mine/other"), "no shards at s3://mine/other/train"),
                        (lambda: open_index(tmp_path, "s3://none/other"), "no shards at s3://none/other/train")):
        with pytest.raises(UserError, match=words) as error:
            what()
        said.append(str(error.value))
    assert "SECRET" not in f"{said}{capfd.readouterr()}{caplog.text}"


def test_a_store_that_is_not_there_ends_with_a_word(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:SECRET@127.0.0.1:9")
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    monkeypatch.setattr(remote, "TIMEOUT", 3.0)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match=r"index.json cannot be read .* after 2 attempts") as error:
        open_index(tmp_path)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("shards", ["nonsense://x/y", "file:///data", "memory://x"])
def test_an_address_of_no_store_is_refused(shards: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"give a folder|cannot be read"):
        open_index(tmp_path, shards)
