"""One tar of a split: which frames go into it, the tar itself, and the record that says that it is done.

What a tar holds and what it is called depend on its frames alone, so any process may write any of them, at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image
from webdataset.writer import TarWriter

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.columns import ENTRY, MAX_FRAME_BYTES, PICTURE
from vid2vid_dist.data.film import is_film
from vid2vid_dist.data.film_packing import pack_films
from vid2vid_dist.data.folders import RawVideo
from vid2vid_dist.data.geometry import MIDDLE, Geometry, Size, clip_geometry
from vid2vid_dist.data.images import NOTE, by, encode, require_size
from vid2vid_dist.data.store import content_hash
from vid2vid_dist.data.tasks.base import DataTask, Labels
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import read_bytes

TAR_BYTES = 256 * 2**20
"""A new tar begins when the last one is larger than this,"""
TARS = 64
"""or than this part of its split, for several processes to have work,"""
LEAST_TAR_BYTES = 4 * 2**20
"""but not before it has this much."""
LAYOUT = 2
"""Another number for another content of tars."""
RECORDS = ".packed"
"""The folder of records in a split."""
PARTIAL = ".partial"
"""Ending of files that are being written."""


@dataclass(frozen=True)
class PackOptions:
    """width: resize to so many pixels, None = keep the bytes; label_nc > 0 refuses ids from there on.

    task: data.task. Landmarks and poses are pixels of the full frame, so they go without a width.
    split_at_jumps: a new video begins where the numbering inside a folder jumps.
    """

    width: int | None = None
    label_nc: int = 0
    task: str = DataConfig.task
    split_at_jumps: bool = False

    @property
    def data_task(self) -> DataTask:
        return task_of(DataConfig(task=self.task))


@dataclass(frozen=True)
class Span:
    """Frames first, first + 1, ... of video `video`, whose folder in the tar is `folder`: per modality their files."""

    video: int
    folder: str
    first: int
    files: dict[str, list[Path]]

    @property
    def n_frames(self) -> int:
        return len(next(iter(self.files.values())))

    def key(self, i: int) -> str:
        """What the members of its frame i are called, up to the first point."""
        return f"{self.folder}/{self.first + i:06d}"


@dataclass(frozen=True)
class TarPlan:
    """What tar `number` is made of, and a hash of it: of the files' places, sizes and times, and of the options."""

    number: int
    spans: list[Span]
    fingerprint: str

    @property
    def n_frames(self) -> int:
        return sum(span.n_frames for span in self.spans)

    @property
    def record(self) -> str:
        """The path of its record in the split's folder."""
        return f"{RECORDS}/{self.number:06d}-{self.fingerprint}.npz"


def plan_tars(videos: list[RawVideo], options: PackOptions) -> list[TarPlan]:
    """Cut a split into tars, by the sizes of its files; with a width W a frame is taken for W * W bytes, which is
    what PNG makes of one."""
    sizes, stamps = [], []
    place = lru_cache(len(options.data_task.modalities))(os.path.realpath)
    for video in videos:
        for paths in zip(*video.files.values(), strict=True):
            stats = [path.stat() for path in paths]
            sizes.append(options.width**2 if options.width else sum(
                stat.st_size // (video.n_frames if is_film(path) else 1)
                for path, stat in zip(paths, stats, strict=True)))
            stamps.append("".join(f"{place(path.parent)}/{path.name} {stat.st_size} {stat.st_mtime_ns}\n"
                                  for path, stat in zip(paths, stats, strict=True)))
    largest = min(TAR_BYTES, max(sum(sizes) // TARS, LEAST_TAR_BYTES))
    plans: list[TarPlan] = []
    spans: list[Span] = []
    first = filled = 0
    for number, video in enumerate(videos):
        folder = f"{number:05d}-{re.sub('[^A-Za-z0-9_-]', '_', video.name)[:60]}"
        begin, whole = 0, any(is_film(files[0]) for files in video.files.values())
        for i in range(video.n_frames):
            filled += sizes[first + i]
            last = number == len(videos) - 1 and i == video.n_frames - 1
            full = filled > largest and not (whole and i < video.n_frames - 1)
            if i == video.n_frames - 1 or full:
                spans.append(Span(number, folder, begin, {m: files[begin : i + 1] for m, files in video.files.items()}))
                begin = i + 1
            if full or last:
                n_frames = sum(span.n_frames for span in spans)
                end = first + i + 1
                plans.append(TarPlan(len(plans), spans, _digest(options, spans, stamps[end - n_frames : end])))
                spans, filled = [], 0
        first += video.n_frames
    return plans


def _digest(options: PackOptions, spans: list[Span], stamps: list[str]) -> str:
    digest = hashlib.blake2b(f"{LAYOUT} {options}\n".encode(), digest_size=16)
    digest.update("".join(f"{span.folder} {span.first}\n" for span in spans).encode())
    digest.update("".join(stamps).encode(errors="surrogateescape"))
    return digest.hexdigest()


@dataclass
class Seen:
    """What the frames of a split have in common, and where it was seen first; of JSON's types, since records hold it.

    sizes: by video the size of its files, the size as packed, and the file. colors: by id the colour, and the file.
    notes: what was made of files, each with the first of them.
    """

    input_kind: str = ""
    input_kind_at: str = ""
    largest_label: int = -1
    largest_label_at: str = ""
    colors: dict[str, list[Any]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, later: Seen) -> None:
        """Take in what was seen of the frames that follow; refuse what contradicts."""
        for video, (raw_size, _, path) in later.sizes.items():
            if video in self.sizes and raw_size != self.sizes[video][0]:
                raise UserError(f"{path}: size {by(raw_size)} differs from the first frame of its video "
                                f"({by(self.sizes[video][0])}): all frames of a video need one size")
        if self.input_kind not in ("", later.input_kind):
            raise UserError(f"{later.input_kind_at} is {later.input_kind} but {self.input_kind_at} is "
                            f"{self.input_kind}: store label maps of one channel (ids) or RGB images (rgb), not both")
        for number, (color, path) in later.colors.items():
            known, where = self.colors.get(number, (color, path))
            if color != known:
                raise UserError(f"{path}: id {number} is the colour {tuple(color)} of its palette, but {tuple(known)} "
                                f"in {where}: a program that saved colours chose the ids anew; store label ids")
        if not self.input_kind:
            self.input_kind, self.input_kind_at = later.input_kind, later.input_kind_at
        if later.largest_label > self.largest_label:
            self.largest_label, self.largest_label_at = later.largest_label, later.largest_label_at
        for name in ("sizes", "colors", "notes"):
            for key, value in getattr(later, name).items():
                getattr(self, name).setdefault(key, value)


@dataclass(frozen=True)
class Record:
    """That a tar is done: its name, size and hash, and what was seen; (modalities, frames) of ENTRY without `shard`,
    of suffixes, and of FILM if there is a video file."""

    tar: str
    size: int
    hash: str
    seen: Seen
    entries: np.ndarray
    suffixes: np.ndarray
    films: np.ndarray | None


def load_record(plan: TarPlan, folder: Path) -> Record | None:
    """None when the tar is not done, or was damaged since."""
    try:
        with np.load(folder / plan.record, allow_pickle=False) as file:
            fields = json.loads(file["fields"].tobytes())
            record = Record(**fields | {"seen": Seen(**fields["seen"])}, entries=file["entries"],
                            suffixes=file["suffixes"], films=file.get("films"))
        return record if (folder / record.tar).stat().st_size == record.size else None
    except Exception:  # whatever zip, numpy and JSON make of a damaged file: the tar is packed again
        return None


def pack_tar(plan: TarPlan, folder: Path, options: PackOptions) -> None:
    """Check all frames of a tar; write the tar, then its record. Raises UserError naming the first bad file."""
    seen, rows, suffixes, films = Seen(), [], [], []
    temporary = folder / f"shard-{plan.number:06d}-{socket.gethostname()}-{os.getpid()}{PARTIAL}"
    with written(temporary) as file:
        hashing = _Hashing(file)
        with TarWriter(hashing, encoder=False, mtime=0) as tar:
            for span in plan.spans:
                packed = pack_films(span.folder, span.files, tar)
                films.append(packed.films)
                for i in range(span.n_frames):
                    members, found = _frame(span, i, options, packed.pictures)
                    seen.add(found)
                    row = {**packed.entries}
                    for ending, modality in sorted((m + suffix, m) for m, (suffix, _) in members.items()):
                        data = members[modality][1]
                        tar.write({"__key__": span.key(i), ending: data})
                        offset = tar.tarstream.offset - (len(data) + 511) // 512 * 512
                        row[modality] = offset, int(content_hash(data), 16), len(data), 0
                    rows.append([row[modality] for modality in span.files])
                    suffixes.append([paths[i].suffix.lower() if modality in packed.entries else members[modality][0]
                                     for modality, paths in span.files.items()])
    name = f"shard-{plan.number:06d}-{hashing.hash.hexdigest()}.tar"
    temporary.rename(folder / name)
    fields = {"tar": name, "size": hashing.size, "hash": hashing.hash.hexdigest(), "seen": asdict(seen)}
    (folder / RECORDS).mkdir(exist_ok=True)
    temporary = folder / RECORDS / temporary.name
    joined = np.concatenate(films, axis=1)
    with_films: dict[str, Any] = {"films": joined} if (joined["start"] != PICTURE).any() else {}
    with written(temporary) as file:
        np.savez(file, fields=np.frombuffer(json.dumps(fields).encode(), np.uint8), entries=np.array(rows, ENTRY).T,
                 suffixes=np.array(suffixes).T, **with_films)
    temporary.rename(folder / plan.record)


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A new file whose bytes are on the disk when the block is left; of a block that fails nothing stays."""
    try:
        with path.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class _Hashing:
    """Hashes and counts what goes through to a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.size, self.hash = file, 0, hashlib.blake2b(digest_size=16)

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self._file.write(data)


def _frame(span: Span, i: int, options: PackOptions, films: dict[str, Image.Image]
           ) -> tuple[dict[str, tuple[str, bytes]], Seen]:
    """Read and check all modalities of frame i of a span: suffix and bytes of each as stored, and what was seen.

    films: for those that are video files, any picture of their size.
    """
    members: dict[str, tuple[str, bytes]] = {}
    raw_size: Size = (0, 0)
    geometry, labels, task = None, Labels(options.task), options.data_task
    notes: dict[str, str] = {}
    for name, files in span.files.items():
        path = files[i]
        if name in films:
            content = films[name]
            if geometry:
                require_size(content, raw_size, str(path))
        else:
            data = _read(path)
            content = task.modalities[name].read(data, str(path), raw_size if geometry else None)
            members[name] = path.suffix.lower(), data
        if not isinstance(content, Image.Image):
            continue
        if geometry is None:
            raw_size, geometry = content.size, _geometry(content.size, options)
        if name == "labels" and task.labels:
            labels = task.labels(content, str(path), options.label_nc)
        if options.width:
            members[name] = encode(geometry.apply(content))
        if NOTE in content.info:
            notes[content.info[NOTE]] = str(path)
    assert geometry is not None
    first = str(next(iter(span.files.values()))[i])
    colors = {str(number): [list(color), first] for number, color in labels.colors.items()}
    return members, Seen(labels.kind, first, labels.largest, first, colors, notes,
                          {str(span.video): [list(raw_size), list(geometry.size), first]})


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_FRAME_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: unreadable image ({error}); replace the file or remove its video") from None


def _geometry(size: Size, options: PackOptions) -> Geometry:
    if options.width is None:
        return Geometry(size)
    data = DataConfig(resize_or_crop="scaleWidth", loadSize=options.width)
    return clip_geometry(size, data, MIDDLE, may_flip=False)
