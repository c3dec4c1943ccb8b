"""Where the files of a split lie: in a folder, or in a store of objects (`data.remote`)."""

import hashlib
import os
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, Protocol

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.errors import UserError

MAKE_SHARDS = "vid2vid-shards <raw folder> <shard folder>"
OPEN_TARS = 64
"""Tars that a rank keeps open: few, since all ranks of a node share the limit of the system."""


class Shard(NamedTuple):
    """A tar: its name, size in bytes, and hash of all of them, "" where the index is of version 1."""

    name: str
    size: int
    hash: str


class Entry(NamedTuple):
    """Where one encoded frame lies: shard number, offset and size in bytes, hash of its bytes."""

    shard: int
    offset: int
    size: int
    hash: str


def content_hash(data: bytes) -> str:
    """Of an encoded frame."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def file_hash(path: Path) -> str:
    """Of a whole tar, or of columns."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


class Store(Protocol):
    """The files of a split, read by any number of threads. All raise `UserError` for what is not as it should be.

    where: folder or address, for messages. fix: what mends it.
    """

    where: str
    fix: str

    def file(self, name: str) -> Path:
        """A whole file on this machine, of the index; of one that is missing, where it would be."""
        ...

    def check(self, shards: list[Shard]) -> None:
        """Whether all tars are there and of their sizes."""
        ...

    def prepare(self, wanted: list[tuple[Shard, Entry]]) -> None:
        """These are read next."""
        ...

    def read(self, shard: Shard, entry: Entry) -> bytes:
        """The bytes at an entry of a tar; what they are is for the caller to check. Raises `OSError` too."""
        ...


def is_remote(shards: str) -> bool:
    """Whether data.shards is an address, not a folder."""
    return "://" in shards


def open_store(data: DataConfig, split: str) -> Store:
    """The files of a split of data.shards; raises UserError for an address that cannot be read from here."""
    if is_remote(data.shards):
        from vid2vid_dist.data.remote import RemoteStore  # few need it

        return RemoteStore(f"{data.shards.rstrip('/')}/{split}", data)
    return Folder(Path(data.shards) / split)


class Folder:
    """A folder of this machine."""

    fix = f"run `{MAKE_SHARDS}` again"

    def __init__(self, path: Path) -> None:
        self._path, self.where = path, str(path)
        self._tar = lru_cache(OPEN_TARS)(partial(_open, path, self.fix))

    def file(self, name: str) -> Path:
        return self._path / name

    def check(self, shards: list[Shard]) -> None:
        for shard in shards:
            path = self._path / shard.name
            if not path.is_file():
                raise UserError(f"shard {path} is missing: {self.fix}")
            require_size(str(path), path.stat().st_size, shard.size, self.fix)

    def prepare(self, wanted: list[tuple[Shard, Entry]]) -> None:
        pass

    def read(self, shard: Shard, entry: Entry) -> bytes:
        tar = self._tar(shard)  # held while it is read: of threads that open it at once, the cache keeps one
        return os.pread(tar.file, entry.size, entry.offset)


class _Tar:
    """An open tar, closed when neither the store nor a reader has it."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # NONBLOCK: not to wait at a pipe

    def __del__(self) -> None:
        with suppress(AttributeError):  # it was not opened
            os.close(self.file)


def _open(folder: Path, fix: str, shard: Shard) -> _Tar:
    path = folder / shard.name
    tar = _Tar(path)
    require_size(str(path), os.fstat(tar.file).st_size, shard.size, fix)
    return tar


def require_size(shard: str, found: int, size: int, fix: str) -> None:
    """Raise UserError for a tar that has not the bytes that it was packed with."""
    if found != size:
        raise UserError(f"shard {shard} has {found} bytes, the index says {size} (truncated or foreign tar): {fix}")
