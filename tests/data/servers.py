"""Servers on loopback that hold shards: of ranges over HTTP, with faults, and of S3."""

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = Callable[[str], str]
"""Of a path: "503", "cut", "slow", "reset", "spoiled", or "" for none."""


class RangeServer(ThreadingHTTPServer):
    """Ranges of the files below a folder; counts what is asked for."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, self))
        self.root, self.fault, self.latency, self.ranges = root, (lambda path: ""), 0.0, True
        self.asked: Counter[str] = Counter()
        self.n_bytes = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that went away are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, owner: RangeServer, *arguments: object) -> None:
        self.owner = owner
        super().__init__(*arguments)

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        owner, path = self.owner, self.owner.root / self.path.lstrip("/")
        owner.asked[self.path.rpartition("/")[2]] += 1
        time.sleep(owner.latency)
        fault = owner.fault(self.path)
        if fault == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault.isdigit() or not path.is_file():
            self.send_response(int(fault or 404))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status = path.stat()
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        with path.open("rb") as file:
            file.seek(int(first) if owner.ranges else 0)
            part = file.read(int(last) + 1 - int(first) if owner.ranges else -1)
        if fault == "spoiled":
            part = bytes(255 - byte for byte in part)
        owner.n_bytes += len(part)
        self.send_response(206 if owner.ranges else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{status.st_size}")
        self.send_header("ETag", f'"{status.st_mtime_ns:x}-{status.st_ino:x}"')
        self.end_headers()
        if fault == "slow":
            time.sleep(1)
        self.wfile.write(part[: len(part) // 2] if fault == "cut" else part)
        self.close_connection = fault == "cut"


@contextmanager
def range_server(root: Path) -> Iterator[RangeServer]:
    """One that runs until the block is left."""
    server = RangeServer(root)
    threading.Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def now_and_then(*faults: str, share: float = 0.3, seed: int = 0) -> Fault:
    """Faults by chance."""
    dice, lock = random.Random(seed), threading.Lock()

    def fault(path: str) -> str:
        with lock:
            return dice.choice(faults) if dice.random() < share else ""

    return fault
