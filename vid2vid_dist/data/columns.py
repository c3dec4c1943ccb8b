"""What an index says of frames and videos, in columns that all ranks of a node map from one file and share.

The file is the sections one after another, little-endian and without gaps:

entries   (modalities, frames) ENTRY     where the bytes of a frame lie, modality by modality
videos    (videos,) VIDEO
films     (films, frames) FILM           of those modalities that are video files somewhere: how a frame is found in it
ends      (frames + videos,) uint64      where each name ends in `text`: of all frames, then of all videos
text      (n_text,) UTF-8
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vid2vid_dist.data.lazy import LazySequence
from vid2vid_dist.data.store import MAKE_SHARDS, file_hash
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_file_name, is_printable

MAX_FRAME_BYTES = 2**28  # of one encoded frame
MAX_FILM_BYTES = 2**32 - 1  # of one video file
MAX_SIDE = 2**16  # pixels
MAX_PATH_BYTES = 4096  # of a video's name
ENTRY = np.dtype([("offset", "<u8"), ("hash", "<u8"), ("size", "<u4"), ("shard", "<u4")])
"""Offset and size in bytes of a member's content in its tar; the first 8 bytes of its BLAKE2b as a number."""
VIDEO = np.dtype([("end", "<u8"), ("width", "<u4"), ("height", "<u4")])
"""`end`: the number of frames of this video and all before it; width and height in pixels."""
SHARED = 2**24
"""Bytes of a file from which on it is mapped: the ranks of a node share its pages. A file that is mapped ends the
process (SIGBUS) when somebody writes it anew in place, as `cp` does; a smaller one is read."""
FILM = np.dtype([("pts", "<i8"), ("start", "<u4"), ("crc", "<u4")])
"""Of a frame in a video file: its time stamp, the frame of the video from which decoding leads to it, and a checksum of
it as decoded (`data.film`). `start` is PICTURE where the frame is a file of its own."""
PICTURE = 2**32 - 1
ROWS = 2**14
"""Entries that are looked at together: what is made of them stays in a core's cache."""


@dataclass(frozen=True)
class Counts:
    """How many there are of each; `n_text` in bytes; films: modalities that are video files somewhere."""

    modalities: int
    frames: int
    videos: int
    n_text: int
    films: int = 0


@dataclass(frozen=True)
class Columns:
    """The sections of the file, as arrays; `where` is the index that they belong to, for messages."""

    where: str
    entries: np.ndarray
    videos: np.ndarray
    films: np.ndarray
    ends: np.ndarray
    text: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(videos,) int64: the frames of each video."""
        return np.diff(self.videos["end"].astype(np.int64), prepend=0)

    def first(self, video: int) -> int:
        """The frames before a video."""
        return int(self.videos["end"][video - 1]) if video else 0

    def frame_names(self, video: int) -> Names:
        first = self.first(video)
        return Names(self, first, int(self.videos["end"][video]) - first, is_file_name)

    @property
    def video_names(self) -> Names:
        return Names(self, self.entries.shape[1], len(self.videos), is_printable)


class Names(LazySequence[str]):
    """`count` of the names from number `first` on, decoded and checked when they are asked for.

    Raises UserError for one that is damaged.
    """

    def __init__(self, columns: Columns, first: int, count: int, is_right: Callable[[object], bool]) -> None:
        super().__init__(count)
        self._columns, self._first, self._is_right = columns, first, is_right

    def make(self, number: int) -> str:
        ends, text = self._columns.ends, self._columns.text
        number += self._first
        start, end = int(ends[number - 1]) if number else 0, int(ends[number])
        name = None
        if start <= end <= min(len(text), start + MAX_PATH_BYTES):
            with suppress(UnicodeDecodeError):
                name = text[start:end].tobytes().decode()
        if name is None or not self._is_right(name):
            raise UserError(f"{self._columns.where} is damaged (names): run `{MAKE_SHARDS}` again")
        return name


def sections(counts: Counts) -> Iterator[tuple[np.dtype, tuple[int, ...]]]:
    """Type and shape of each section, in the order of the file."""
    yield ENTRY, (counts.modalities, counts.frames)
    yield VIDEO, (counts.videos,)
    yield FILM, (counts.films, counts.frames)
    yield np.dtype("<u8"), (counts.frames + counts.videos,)
    yield np.dtype("u1"), (counts.n_text,)


def n_bytes(counts: Counts) -> int:
    """Of the whole file."""
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in sections(counts))


def map_columns(where: str, path: Path, counts: Counts) -> Columns:
    """The columns of a file; of a large one read page by page as they are used.

    Raises `OSError` when it cannot be read, `ValueError` when it is not what the counts say.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # NONBLOCK: a pipe has no end to wait for
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size != n_bytes(counts):
            raise ValueError(f"{path.name} has {found.st_size} bytes instead of {n_bytes(counts)}")
        if found.st_size >= SHARED:
            return _views(where, mmap.mmap(file, 0, prot=mmap.PROT_READ), counts)
        return _views(where, os.read(file, found.st_size), counts)  # less, of one that is cut meanwhile: no view fits
    finally:
        os.close(file)


def new_columns(path: Path, counts: Counts) -> tuple[Columns, mmap.mmap]:
    """The columns of a new file to be filled, and what to flush when they are. Raises `OSError` where there is no room:
    a disk that is full when a page is filled ends the process (SIGBUS)."""
    with path.open("w+b") as file:
        os.posix_fallocate(file.fileno(), 0, n_bytes(counts))
        pages = mmap.mmap(file.fileno(), 0)
    return _views(str(path), pages, counts), pages


def columns_name(path: Path) -> str:
    """What a file of columns is called, by its content."""
    return f"columns-{file_hash(path)}.bin"


def _views(where: str, pages: mmap.mmap | bytes, counts: Counts) -> Columns:
    start, arrays = 0, []
    for dtype, shape in sections(counts):
        arrays.append(np.frombuffer(pages, dtype, math.prod(shape), start).reshape(shape))
        start += arrays[-1].nbytes
    return Columns(where, *arrays)


def of_frames(columns: Columns, rows: Mapping[str, int], input_kind: str) -> str:
    """A hash of the bytes of all frames, by their hashes, and of the videos. `rows`: of `entries`, by modality."""
    digest = hashlib.blake2b(input_kind.encode(), digest_size=16)
    digest.update(columns.videos.tobytes())
    for modality, row in sorted(rows.items()):
        digest.update(f"\n{modality}\n".encode())
        for start in range(0, columns.entries.shape[1], ROWS):
            digest.update(columns.entries["hash"][row, start : start + ROWS].tobytes())
    for film in columns.films:  # of these the hash is that of the whole file
        for start in range(0, len(film), ROWS):
            digest.update(film[start : start + ROWS].tobytes())
    return digest.hexdigest()


def check(columns: Columns, shard_sizes: Sequence[int], films: Sequence[int] = ()) -> None:
    """Raise `ValueError`, with the video, where an entry lies outside its tar or is no frame, or a size is none.

    films: the rows of modalities that may be video files.
    """
    videos, n_frames = columns.videos, columns.entries.shape[1]
    if not 1 <= len(videos) <= n_frames:
        raise ValueError("videos")
    lengths = columns.lengths
    if lengths.min() < 1 or videos["end"][-1] != n_frames or videos["end"].max() > n_frames:
        raise ValueError("videos")
    for side in (videos["width"], videos["height"]):
        if side.min() < 1 or side.max() > MAX_SIDE:
            raise ValueError("size")
    sizes = np.array([*shard_sizes, 0], np.uint64)  # the last one is of entries whose tar is not there
    for number, modality in enumerate(columns.entries):
        largest = MAX_FILM_BYTES if number in films else MAX_FRAME_BYTES
        for start in range(0, n_frames, ROWS):
            entries = modality[start : start + ROWS]
            there = sizes[np.minimum(entries["shard"], len(sizes) - 1)]
            size = entries["size"].astype(np.uint64)
            wrong = (size < 1) | (size > largest) | (size > there)
            wrong |= entries["offset"] > there - np.minimum(size, there)
            if wrong.any():
                video = int(np.searchsorted(videos["end"], start + int(wrong.argmax()), side="right"))
                raise ValueError(f"frames of {columns.video_names[video]}")
