"""Video files inside shards, kept as they are: any frame of one, bit for bit as if decoded from the start.

Where decoding may begin is known since it was packed (`data.film_packing`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock

import av
import numpy as np
from PIL import Image

from vid2vid_dist.data.geometry import Size
from vid2vid_dist.data.store import Entry
from vid2vid_dist.data.video_file import decoded, shown, shown_size, turn
from vid2vid_dist.errors import UserError

FILM_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
BLOCK = 2**20
"""Bytes of a file that are read at a time."""
BLOCKS = 4
"""Of them in memory, for each decoder; what was read first goes."""
DECODERS = 8
"""That a rank keeps where they are: the next chunk of a clip goes on there."""


def is_film(path: Path) -> bool:
    return path.suffix.lower() in FILM_SUFFIXES


def frames_from(file: Path | FilmBytes, films: np.ndarray, start: int) -> Iterator[av.VideoFrame]:
    """The frames from number `start` on, one that decoding may begin at."""
    if not start:
        yield from decoded(file, told=False)
        return
    pts, there = int(films["pts"][start]), False
    for frame in decoded(file, told=False, pts=pts):
        there = there or frame.pts == pts
        if there:
            yield frame


def checksum(frame: av.VideoFrame) -> int:
    """Of pixels as they are stored: what is made of them for a screen may differ from machine to machine."""
    try:
        pixels = frame.to_ndarray()
    except ValueError:  # a format that PyAV has no array for
        pixels = frame.to_ndarray(format="rgb24")
    return zlib.crc32(pixels.tobytes(), zlib.crc32(repr(turn(frame)).encode()))


class FilmBytes:
    """A file inside a tar (`video_file.OpenFile`), read block by block."""

    def __init__(self, name: str, entry: Entry, read: Callable[[Entry], bytes]) -> None:
        self.name, self.n_bytes = name, entry.size
        self._entry, self._read, self._at = entry, read, 0
        self._blocks: dict[int, bytes] = {}

    def seek(self, position: int, whence: int = 0) -> int:
        self._at = position + (0, self._at, self.n_bytes)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self.n_bytes if size < 0 else min(self._at + size, self.n_bytes)
        pieces = []
        while self._at < end:
            number, skipped = divmod(self._at, BLOCK)
            pieces.append(self._block(number)[skipped : skipped + end - self._at])
            self._at += len(pieces[-1])
        return b"".join(pieces)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            while len(self._blocks) >= BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            start = number * BLOCK
            size = min(BLOCK, self.n_bytes - start)
            self._blocks[number] = self._read(Entry(self._entry.shard, self._entry.offset + start, size, ""))
            if len(self._blocks[number]) != size:
                raise OSError(f"{self.name} ends early")
        return self._blocks[number]


@dataclass(frozen=True)
class Film:
    """A video file of a video in the shards: what names it, (frames,) FILM, and a new reader of its bytes."""

    key: tuple[int, str]
    films: np.ndarray
    open: Callable[[], FilmBytes]
    size: Size


class _Decoder:
    """At some frame of a film, and goes on from there."""

    def __init__(self, film: Film, start: int) -> None:
        self.film, self.next = film, start
        self._frames = frames_from(film.open(), film.films, start)

    def frame(self, number: int) -> av.VideoFrame | None:
        """Frame `number`, not before `next`; None where there is none."""
        skipped = number - self.next
        self.next = number + 1
        return next(islice(self._frames, skipped, None), None)


class Films:
    """Decodes frames of films, by any number of threads."""

    def __init__(self) -> None:
        self._idle: list[_Decoder] = []
        self._lock = Lock()

    def frame(self, film: Film, number: int, where: str) -> Image.Image:
        """Frame `number`, RGB. Raises UserError, with `where`, for one that is not what was packed."""
        start = int(film.films["start"][number])
        if start > number:
            raise UserError(f"{where}: the index is damaged (start): pack it again")
        with self._lock:
            near = [one for one in self._idle if one.film.key == film.key and start <= one.next <= number]
            decoder = max(near, key=lambda one: one.next, default=None)
            if decoder is not None:
                self._idle.remove(decoder)
        decoder = decoder or _Decoder(film, start)
        frame = decoder.frame(number)
        if frame is None or checksum(frame) != film.films["crc"][number] or shown_size(frame) != film.size:
            raise UserError(f"{where}: frame {number} of its video file is not the one that was packed: the tar is "
                            "damaged, or this FFmpeg decodes in another way; pack it again, here")
        with self._lock:
            self._idle = [decoder, *self._idle][:DECODERS]
        return Image.fromarray(shown(frame))
