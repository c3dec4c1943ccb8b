"""A video file as its frames in order, each as players show it, to where the stream ends."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import av
import numpy as np

from vid2vid_dist.data.geometry import Size
from vid2vid_dist.data.images import MAX_PIXELS
from vid2vid_dist.errors import UserError

log = logging.getLogger(__name__)

MAX_TABLES_BYTES = 2**28  # of an mp4's tables of samples; hours of video need some MiB
MAX_BOXES = 2**20
SAMPLE_COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Boxes of an mp4 that count samples, and how far behind the name the number stands."""


def count_frames(file: Path) -> tuple[int, Size]:
    """How many frames `frames_of` gives, and their size; logs what is not as the file says. Raises likewise."""
    n_frames, size = 0, (0, 0)
    for frame in decoded(file, told=True):
        n_frames, size = n_frames + 1, shown_size(frame)
    return n_frames, size


def frames_of(file: Path, told: bool = True) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) uint8 RGB of a file, turned as its display matrix says.

    What the container counts plays no part, and what cannot be decoded is left out; both are logged if `told`.
    Raises UserError for what is no video, and for frames of several sizes.
    """
    yield from map(shown, decoded(file, told))


def shown(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a frame, turned as its display matrix says."""
    transposed, down, right = turn(frame)
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray((pixels.swapaxes(0, 1) if transposed else pixels)[::down, ::right])


class OpenFile(Protocol):
    """A file that is open for reading, with a name for messages."""

    name: str

    def seek(self, position: int, whence: int = 0) -> int: ...

    def read(self, size: int = -1) -> bytes: ...


def decoded(file: Path | OpenFile, told: bool, pts: int | None = None) -> Iterator[av.VideoFrame]:
    """Frames as they are stored; from the keyframe at or before the time stamp `pts` on, if that is given."""
    n_frames, size, faults = 0, (0, 0), list[str]()
    name = file if isinstance(file, Path) else file.name
    fix = "give mp4, shards or a folder"
    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
            _require_plausible(name, opened)
            opened.seek(0)
        with av.open(str(file) if isinstance(file, Path) else file, "r") as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream):
                raise UserError(f"{name} is not a video that can be read (there is none in it): {fix}")
            if container.format.name == "image2" or container.format.name.endswith("_pipe"):
                raise UserError(f"{name} is a picture: give a folder of frames; --first image:FILE starts from one")
            if stream.width * stream.height > MAX_PIXELS:
                raise UserError(f"{name}: frames of {stream.width}x{stream.height}: more than {MAX_PIXELS} "
                                "pixels: scale it down")
            promised, pixel = stream.frames, stream.sample_aspect_ratio or 1
            if pts is not None:
                container.seek(pts, stream=stream)
            for packet in _packets(container, stream, faults):
                try:
                    frames = stream.decode(packet)
                except av.FFmpegError as error:
                    faults.append(f"after frame {n_frames - 1}: {error.strerror}")
                    continue
                for frame in frames:
                    size = size if n_frames else shown_size(frame)
                    if shown_size(frame) != size:
                        raise UserError(f"{name}: frame {n_frames} has the size {shown_size(frame)}, those before "
                                        f"{size}: cut the file there")
                    yield frame
                    n_frames += 1
    except (OSError, av.FFmpegError) as error:
        raise UserError(f"{name} is not a video that can be read ({error.strerror}): {fix}") from None
    if not n_frames:
        raise UserError(f"{name} is not a video that can be read ({(*faults, 'no frame in it')[0]}): {fix}")
    if told and (faults or n_frames < promised):
        log.warning("%s: %d frames can be decoded, its header counts %d%s", name, n_frames, promised,
                    f"; {len(faults)} faults, the first {faults[0]}" if faults else "")
    if told and pixel != 1:
        log.warning("%s: its pixels are %s times as wide as high, and are taken as square", name, pixel)


def _packets(container: av.container.InputContainer, stream: av.VideoStream, faults: list[str]
             ) -> Iterator[av.Packet | None]:
    """The packets of a stream as far as they can be read, then None, at which a decoder gives what it still holds."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.FFmpegError as error:
        faults.append(f"at the end: {error.strerror}")
    yield None


def turn(frame: av.VideoFrame) -> tuple[bool, int, int]:
    """Whether a stored frame is to be transposed, then the steps in which its rows and its columns are to be read."""
    sides: Any = frame.side_data  # typed as what it is not
    if "DISPLAYMATRIX" not in sides:
        return False, 1, 1
    a, b, _, c, d = np.frombuffer(sides["DISPLAYMATRIX"], np.int32)[:5].tolist()
    transposed = abs(b) > abs(a)
    rows, columns = (b, c) if transposed else (d, a)
    return transposed, 1 if rows > 0 else -1, 1 if columns > 0 else -1


def shown_size(frame: av.VideoFrame) -> Size:
    """Width and height of a frame, turned."""
    return (frame.height, frame.width) if turn(frame)[0] else (frame.width, frame.height)


def _require_plausible(where: Path | str, file: OpenFile | BinaryIO) -> None:
    """Raise UserError for an mp4 that counts more samples than it has bytes: FFmpeg would make room for all of them."""
    n_bytes, at = file.seek(0, os.SEEK_END), 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        length = int.from_bytes(head[8:], "big") if length == 1 else length or n_bytes - at
        if length < 8 or not name.isalnum():  # the end, or another container
            return
        if name in (b"moov", b"moof"):
            file.seek(at)
            tables = file.read(min(length, MAX_TABLES_BYTES))
            for found in re.finditer(b"|".join(SAMPLE_COUNTS), tables):
                number = found.end() + SAMPLE_COUNTS[found[0]]
                if int.from_bytes(tables[number : number + 4], "big") > n_bytes:
                    raise UserError(f"{where} is not a video that can be read: its header counts more frames "
                                    "than it has bytes; copy it again")
        at += length
