"""Fetching weights, from a server on this machine."""

import hashlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vid2vid_dist.cli import weights as fetch_weights
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.weights import FILES, Published, fetch
from vid2vid_dist.errors import UserError

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = Published("net.pth", f"https://nowhere.invalid/models/net-{DIGEST[:8]}.pth", "key={path}")


class Server(ThreadingHTTPServer):
    """Gives `content` for any path, as a mirror does; `breaks_after` bytes the connection ends."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks_after, self.knows_ranges, self.asked = CONTENT, len(CONTENT), True, list[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/models/"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(f"{self.path} {wanted}".strip())
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.knows_ranges else 0
        rest = self.server.content[first:]
        if wanted and self.server.knows_ranges and not rest:
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        with suppress(ConnectionError):  # who asked may have left
            self.wfile.write(rest[: self.server.breaks_after])

    def log_message(self, format: str, *args: object) -> None:
        """Not on the tests' stderr."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_fetched_once_and_its_hash_kept(server: Server, tmp_path: Path) -> None:
    assert DIGEST in fetch(FILE, tmp_path, server.url)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT
    assert listed(tmp_path) == sorted(["SHA256SUMS", FILE.name])
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
    assert fetch(FILE, tmp_path, server.url).endswith("is there")
    assert server.asked == [f"/models/{FILE.published_name}"]


def test_a_download_that_broke_off_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks_after = 700_000
    with pytest.raises(UserError, match=r"broke off after 700000 bytes; .* What has come is kept"):
        fetch(FILE, tmp_path, server.url)
    assert listed(tmp_path) == [f".{FILE.name}.part"]
    fetch(FILE, tmp_path, server.url)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT
    assert server.asked[1] == f"/models/{FILE.published_name} bytes=700000-"


@pytest.mark.parametrize("knows_ranges", [True, False])
@pytest.mark.parametrize("part", [CONTENT, CONTENT[:1000], b"of something else", CONTENT + b"too long"])
def test_whatever_is_left_of_an_attempt(part: bytes, knows_ranges: bool, server: Server, tmp_path: Path) -> None:
    server.knows_ranges = knows_ranges
    (tmp_path / f".{FILE.name}.part").write_bytes(part)
    fetch(FILE, tmp_path, server.url)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT


def test_another_file_is_refused(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(UserError, match=f"gives another file: its SHA-256 begins with .{{8}}, not {DIGEST[:8]}"):
        fetch(FILE, tmp_path, server.url)
    assert listed(tmp_path) == []


def test_the_whole_hash_counts_once_it_is_known(server: Server, tmp_path: Path) -> None:
    fetch(FILE, tmp_path, server.url)
    (tmp_path / FILE.name).write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="is damaged"):
        fetch(FILE, tmp_path, server.url)
    (tmp_path / FILE.name).unlink()
    other = DIGEST[:8] + "0" * 56
    (tmp_path / "SHA256SUMS").write_text(f"{other}  {FILE.name}\n")
    with pytest.raises(UserError, match="gives another file"):
        fetch(FILE, tmp_path, server.url)


def test_without_network(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # a port where nobody listens
        with pytest.raises(UserError, match=rf"cannot fetch http://.*{FILE.published_name}: .*refused; run this where "
                                            rf"there is network, or copy the file to .*{FILE.name} \(its SHA-256 "
                                            rf"begins with {DIGEST[:8]}\)"):
            fetch(FILE, tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}/")


def test_a_folder_that_cannot_be_made(server: Server) -> None:
    with pytest.raises(UserError, match=r"cannot fetch .*No such file or directory"):
        fetch(FILE, Path("/proc/weights"), server.url)


def test_an_absurd_size_is_refused(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_weights, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="more than any of these files has"):
        fetch(FILE, tmp_path, server.url)


def test_the_command_fetches_what_the_losses_and_the_flow_name(
        server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert [file.name.partition(".")[0] for file in FILES] == [
        "vgg19", "raft_large", "raft_small", "alexnet", "deeplabv3_resnet50", "inception", "i3d_torchscript"]
    assert all(file.url.startswith("https://") and len(file.hash_prefix) in (8, 64) for file in FILES)
    assert FILES[-1].published_name == FILES[-1].name  # without what the address asks for
    monkeypatch.setattr(fetch_weights, "FILES", [FILE])
    monkeypatch.setattr("sys.argv", ["fetch_weights", str(tmp_path / "w"), "--base-url", server.url])
    with pytest.raises(SystemExit) as ended:
        run_main(fetch_weights.main)
    assert ended.value.code == 0
    assert f"  key={tmp_path}/w/{FILE.name}\n" in capsys.readouterr().out
