"""Shards in a store of objects: what a rank reads is fetched by range, and kept on its node for a while."""

import hashlib
import logging
import os
import random
import re
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.atomic import alone_in
from vid2vid_dist.data.http import Http
from vid2vid_dist.data.store import Entry, Shard, content_hash, require_size
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import reason

log = logging.getLogger(__name__)

ATTEMPTS = 8
FIRST_DELAY, LONGEST_DELAY = 0.25, 16.0
"""Seconds before a second attempt, doubled before each that follows, less up to a half by chance: half a minute in
all, and ranks that failed together do not come back together."""
TIMEOUT = 60.0
"""Seconds for an answer, all of it."""
BLOCK = 8 * 2**20
"""Bytes that are asked for at a time of a file that is fetched whole."""
AT_ONCE = 16
"""Requests of a rank."""
PATIENCE = 600.0
"""Seconds that a rank waits for another of its node to fetch the index."""
CHECK_BYTES = 8
FULL, LEFT, SHARE = 0.75, 0.6, 64
"""Parts of a cache's limit: from where room is made in it, and how much stays. A rank looks when it has added 1/SHARE
of the limit, so that 16 ranks at once stay below it."""
PARTIAL = ".partial"

T = TypeVar("T")


class Objects(Protocol):
    """A folder of objects. Raises `FileNotFoundError`, `PermissionError`, `UserError`; all else may pass by itself."""

    def stat(self, name: str) -> tuple[int, str]:
        """Size in bytes, and what is another one for another content."""
        ...

    def read(self, name: str, start: int, end: int) -> bytes: ...


class RemoteStore:
    """The files of a split at an address (`Store`)."""

    fix = "copy the packed folder there again, its index.json last"

    def __init__(self, url: str, data: DataConfig) -> None:
        self.where = url
        self._objects = _objects(url)
        self._cache = Cache(Path(data.cache or f"{tempfile.gettempdir()}/vid2vid_dist-{os.getuid()}"),
                            int(data.cache_gb * 1e9))
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")
        self._versions: dict[str, str] = {}
        self._dice = random.Random()  # not the one that training draws from

    def file(self, name: str) -> Path:
        """Fetched by one rank of a node; the others ask only whether it has changed."""
        try:
            size, version = self._tried(name, lambda: self._objects.stat(name))
        except FileNotFoundError:
            return self._cache.path("missing", self.where, name)
        path = self._cache.path(self.where, name, version)
        try:
            with alone_in(self._cache.folder, PATIENCE):
                if not path.is_file():
                    with self._cache.written(path) as file:
                        for start in range(0, size, BLOCK):
                            file.write(self._range(name, start, min(start + BLOCK, size)))
                os.utime(path)
        except OSError as error:
            raise self._cache.unusable(error) from None
        return path

    def check(self, shards: list[Shard]) -> None:
        deque(self._pool.map(self._version, shards), maxlen=0)

    def prepare(self, wanted: list[tuple[Shard, Entry]]) -> None:
        """Fetched together, into the cache: one after another, each would wait for the store."""
        if self._cache.limit:
            deque(self._pool.map(lambda one: self.read(*one), wanted), maxlen=0)

    def read(self, shard: Shard, entry: Entry) -> bytes:
        key = self._cache.path(self.where, shard.name, self._version(shard), str(entry.offset), str(entry.size))
        data = self._cache.get(key)
        if data is None:
            try:
                data = self._range(shard.name, entry.offset, entry.offset + entry.size, entry.hash)
            except FileNotFoundError:
                raise self._missing(shard.name) from None
            self._cache.put(key, data)
        return data

    def _version(self, shard: Shard) -> str:
        """Of a tar, which is asked for once."""
        if shard.name not in self._versions:
            try:
                size, version = self._tried(shard.name, lambda: self._objects.stat(shard.name))
            except FileNotFoundError:
                raise self._missing(shard.name) from None
            require_size(f"{self.where}/{shard.name}", size, shard.size, self.fix)
            self._versions[shard.name] = version
        return self._versions[shard.name]

    def _missing(self, name: str) -> UserError:
        return UserError(f"{self.where}/{name} is missing: {self.fix}")

    def _range(self, name: str, start: int, end: int, digest: str = "") -> bytes:
        def ask() -> bytes:
            data = self._objects.read(name, start, end)
            if len(data) != end - start or (digest and content_hash(data) != digest):
                known = self._versions.get(name)
                if known is not None and self._objects.stat(name)[1] != known:
                    raise UserError(f"{self.where}/{name} has changed since this run looked at it first: {self.fix}")
                raise _OtherBytes("the bytes differ from the index")
            return data

        return self._tried(name, ask)

    def _tried(self, name: str, ask: Callable[[], T]) -> T:
        """What `ask` gives, at the latest at the last attempt. Raises `FileNotFoundError` and `UserError`."""
        for attempt in range(ATTEMPTS):
            try:
                return ask()
            except (FileNotFoundError, UserError):
                raise
            except PermissionError as error:
                raise UserError(f"{self.where}/{name} is not there, or not to be read by you ({_said(error)}): see to "
                                "the credentials, which are taken from where the store's own tools have them") from None
            except Exception as error:  # of a network and the library behind it: whatever there is
                if attempt == ATTEMPTS - 1 or (isinstance(error, _OtherBytes) and attempt):
                    raise UserError(f"{self.where}/{name} cannot be read ({_said(error)}) after {attempt + 1} "
                                    f"attempts: see to the store, or {self.fix}") from None
                if attempt:
                    log.warning("%s/%s: %s: attempt %d of %d", self.where, name, _said(error), attempt + 2, ATTEMPTS)
                delay = min(FIRST_DELAY * 2**attempt, LONGEST_DELAY)
                time.sleep(delay * self._dice.uniform(0.5, 1))
        raise AssertionError("unreachable")


class _OtherBytes(ValueError):
    """What came is not what was packed."""


def _said(error: Exception) -> str:
    """An error in a few words, without addresses, which may hold credentials."""
    return f"{type(error).__name__.strip('_')}: {re.sub(r'[a-z0-9+]+://[^ ]+', '…', reason(error))}"


def _objects(url: str) -> Objects:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UserError("data.shards is no address: write s3://BUCKET/FOLDER or https://HOST/FOLDER") from None
    if "@" in url or parts.query or parts.fragment:
        raise UserError("data.shards: leave user name, password and query out of the address, which is written into "
                        "the run's files: credentials are taken from where the store's own tools have them "
                        "(AWS_PROFILE, ~/.aws, …)")
    return Http(url, TIMEOUT) if parts.scheme in ("http", "https") else _Fsspec(url, parts.scheme)


class _Fsspec:
    """Objects of whatever store fsspec has an asynchronous file system for."""

    def __init__(self, url: str, scheme: str) -> None:
        import fsspec  # torch brings it

        try:
            self._files = fsspec.filesystem(scheme, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise UserError(f"data.shards={url} cannot be read ({reason(error)}): s3 needs pip install "
                            "'vid2vid-dist[s3]', gs needs pip install gcsfs") from None
        if not self._files.async_impl:
            raise UserError(f"data.shards={url}: {scheme} is no store of objects: give a folder, s3://, gs:// or "
                            "https://")
        self._url = url

    def stat(self, name: str) -> tuple[int, str]:
        info = self._wait(self._files._info, name)
        return info["size"], repr(sorted(info.items()))

    def read(self, name: str, start: int, end: int) -> bytes:
        return self._wait(self._files._cat_file, name, start=start, end=end)

    def _wait(self, ask: Callable, name: str, **options: int) -> Any:
        from fsspec.asyn import sync

        return sync(self._files.loop, ask, f"{self._url}/{name}", timeout=TIMEOUT, **options)


class Cache:
    """Files in a folder that any number of processes share: whole or absent, right or not used, and not too many.

    Each has a few bytes of its hash in front; those of an index, which are mapped, have not.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        """limit: bytes. Raises UserError for a folder that cannot be used."""
        self.folder, self.limit = folder, limit
        self._unseen = limit  # bytes since this process looked: it does so at first
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.getuid() and folder.parent == Path(tempfile.gettempdir()):
                raise PermissionError(f"{folder} is another user's")
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise self.unusable(error) from None

    def unusable(self, error: OSError) -> UserError:
        return UserError(f"{self.folder} cannot keep what is fetched ({reason(error)}): set data.cache to a folder on "
                         "a disk of this node")

    def path(self, *key: str) -> Path:
        name = hashlib.blake2b("\n".join(key).encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / name[2:]

    def get(self, path: Path) -> bytes | None:
        with suppress(OSError):
            data = path.read_bytes()
            if _check_bytes(data[CHECK_BYTES:]) == data[:CHECK_BYTES]:
                os.utime(path)
                return data[CHECK_BYTES:]
        return None

    def put(self, path: Path, data: bytes) -> None:
        """Keep it if there is room on the disk."""
        if len(data) > self.limit:
            return
        try:
            with self.written(path) as file:
                file.write(_check_bytes(data) + data)
        except OSError as error:
            log.warning("%s cannot keep what is fetched (%s): going on without", self.folder, reason(error))
        self._unseen += len(data)
        if self._unseen > self.limit / SHARE:
            self._unseen = 0
            self._make_room()

    @contextmanager
    def written(self, path: Path) -> Iterator[IO[bytes]]:
        """A new file, which is there when the block succeeds."""
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, aside = tempfile.mkstemp(PARTIAL, dir=path.parent)
        try:
            with open(handle, "wb") as file:
                yield file
            os.rename(aside, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(aside)
            raise

    def _make_room(self) -> None:
        """Remove what was not read for longest, if there is too much; another process may do the same."""
        found, n_bytes = [], 0
        for path in self.folder.glob("*/*"):
            with suppress(OSError):  # it is gone
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
                n_bytes += status.st_size
        if n_bytes > self.limit * FULL:
            for _, size, path in sorted(found):
                if n_bytes <= self.limit * LEFT:
                    break
                path.unlink(missing_ok=True)
                n_bytes -= size


def _check_bytes(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECK_BYTES).digest()
