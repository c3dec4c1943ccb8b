"""Raw folders -> WebDataset tars, `index.json` and a contact sheet to look at.

A tar member is called `00003-name/000012.labels.png`: webdataset groups the modalities of a frame
into one sample, and sorted keys keep videos and frames in order. Original bytes are kept unless a
width is asked for; then images are resized bicubically, ids by nearest, to the size that
`scaleWidth` gives them, and both are stored as PNG: training with scaleWidth at that width sees
exactly the pixels that it would see of the full-size files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from webdataset.writer import ShardWriter

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.atomic import locked, written_aside
from vid2vid_dist.data.contact import CONTACT_SHEET, contact_sheet
from vid2vid_dist.data.folders import SPLITS, RawVideo, scan
from vid2vid_dist.data.geometry import MIDDLE, Geometry, Size, clip_geometry
from vid2vid_dist.data.images import NOTE, encode
from vid2vid_dist.data.index import FORMAT, MAX_FRAME_BYTES, VERSION, Entry, ShardIndex, content_hash
from vid2vid_dist.data.tasks.base import DataTask, Labels
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import read_bytes

SHARD_BYTES = 256 * 2**20
"""A new tar begins when the last one is larger than this."""
BATCH_FRAMES = 64
"""Frames that are in memory at once."""


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


def make_shards(source: Path, out: Path, options: PackOptions, force: bool = False) -> list[str]:
    """Pack every split of `source` into out/train and out/test; returns one line to print per split.

    A split is written aside and renamed, so a folder that exists is complete; one that is up to date
    is left alone unless `force`. Raises UserError naming the first bad file.
    """
    task = options.data_task
    endings = [modality.folder for modality in task.modalities.values()]
    if options.width and not task.resizable:
        raise UserError(f"SIZE={options.width} with TASK={task.name}: keypoints are pixels of the full frames, "
                        "which are stored as they are; leave SIZE out, data.loadSize scales them in training")
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; SRC needs train_{endings[0]}/, train_{endings[1]}/, ...")
    splits = {split: videos for split in SPLITS if (videos := scan(source, split, task, options.split_at_jumps))}
    if not splits:
        raise UserError(f"{source} has no train_{endings[0]}/ or test_{endings[0]}/: below each belongs one folder of "
                        "frames per video")
    return [_make_split(videos, out / split, options, force) for split, videos in splits.items()]


def _make_split(videos: list[RawVideo], folder: Path, options: PackOptions, force: bool) -> str:
    fingerprint = _fingerprint(videos, options)
    with locked(folder):
        if folder.exists() and not (folder / "index.json").is_file():
            raise UserError(f"{folder} exists and is no shard folder: move it away or choose another OUT")
        if not force and _is_current(folder, fingerprint):
            return f"{folder}: up to date"
        with written_aside(folder) as aside:
            index = _pack(videos, aside, options)
            (aside / "index.json").write_text(json.dumps({**index, "source": fingerprint}))
            packed = ShardIndex(aside)
            contact_sheet(packed).save(aside / CONTACT_SHEET)
    n_frames = sum(len(video.frames) for video in packed.videos)
    mebibytes = sum(size for _, size in packed.shards) / 2**20
    notes = "".join(f"; {note} (first {where})" for note, where in index["notes"].items())
    return (f"{folder}: {len(packed.videos)} videos, {n_frames} frames, {len(packed.shards)} shards, "
            f"{mebibytes:.1f} MiB{notes}; look at {folder / CONTACT_SHEET}")


def _fingerprint(videos: list[RawVideo], options: PackOptions) -> str:
    """Changes when the source files or the options do."""
    digest = hashlib.blake2b(f"{VERSION} {options}".encode(), digest_size=16)
    for path in (path for video in videos for files in video.files.values() for path in files):
        stat = path.stat()
        digest.update(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _is_current(folder: Path, fingerprint: str) -> bool:
    try:
        ShardIndex(folder)
    except UserError:
        return False
    return json.loads((folder / "index.json").read_bytes()).get("source") == fingerprint


@dataclass(frozen=True)
class _Frame:
    """One checked frame: modality -> (suffix, bytes), what its label map holds, and what was made of its files, each
    with the first of them."""

    members: dict[str, tuple[str, bytes]]
    raw_size: Size
    size: Size
    labels: Labels
    notes: dict[str, str]


@dataclass
class _Seen:
    """What the frames of a split have in common so far, and where it was seen; sizes by video."""

    input_kind: str = ""
    input_kind_at: str = ""
    largest_label: int = -1
    largest_label_at: str = ""
    colors: dict[int, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    raw_sizes: list[Size] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)

    def add(self, frame: _Frame, video: int, path: Path) -> None:
        """Refuse a frame that contradicts the earlier ones; `path` is the file that names it."""
        if video == len(self.sizes):
            self.raw_sizes.append(frame.raw_size)
            self.sizes.append(frame.size)
        if frame.raw_size != self.raw_sizes[video]:
            raise UserError(f"{path}: size {_by(frame.raw_size)} differs from the first frame of its video "
                            f"({_by(self.raw_sizes[video])}): all frames of a video need one size")
        if not self.input_kind:
            self.input_kind, self.input_kind_at = frame.labels.kind, str(path)
        if frame.labels.kind != self.input_kind:
            raise UserError(f"{path} is {frame.labels.kind} but {self.input_kind_at} is {self.input_kind}: store label "
                            "maps of one channel (ids) or RGB images (rgb), not both")
        for number, color in frame.labels.colors.items():
            known, where = self.colors.setdefault(number, (color, str(path)))
            if color != known:
                raise UserError(f"{path}: id {number} is the colour {color} of its palette, but {known} in {where}: a "
                                "program that saved colours chose the ids anew; store label ids")
        self.notes = frame.notes | self.notes
        if frame.labels.largest > self.largest_label:
            self.largest_label, self.largest_label_at = frame.labels.largest, str(path)


def _pack(videos: list[RawVideo], folder: Path, options: PackOptions) -> dict[str, Any]:
    """Write the tars of a split; returns the content of its index.json."""
    seen = _Seen()
    members: list[dict[str, list[str]]] = []  # per video and modality the member names
    hashes: dict[str, str] = {}
    pattern = str(folder.resolve()).replace("%", "%%") + "/shard-%06d.tar"
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        ShardWriter(pattern, 10**9, SHARD_BYTES, verbose=0, encoder=False, mtime=0) as tars,
    ):
        for number, video in enumerate(videos):
            members.append({})
            safe_name = re.sub("[^A-Za-z0-9_-]", "_", video.name)[:60]
            for i, frame in enumerate(_frames(video, options, pool)):
                seen.add(frame, number, video.first[i])
                key = f"{number:05d}-{safe_name}/{i:06d}"
                sample = {m + suffix: data for m, (suffix, data) in frame.members.items()}
                tars.write({"__key__": key, **sample})
                for modality, (suffix, data) in frame.members.items():
                    name = f"{key}.{modality}{suffix}"
                    members[-1].setdefault(modality, []).append(name)
                    hashes[name] = content_hash(data)
    shards = sorted(folder.glob("*.tar"))
    entries = {name: entry for i, path in enumerate(shards) for name, entry in _entries(i, path, hashes)}
    records = [
        {
            "name": video.name,
            "size": seen.sizes[i],
            "frames": [path.stem for path in video.first],
            "entries": {m: [entries[name] for name in names] for m, names in members[i].items()},
        }
        for i, video in enumerate(videos)
    ]
    content = json.dumps([seen.input_kind, seen.sizes, [r["frames"] for r in records], hashes])
    return {
        "format": FORMAT,
        "version": VERSION,
        "hash": hashlib.blake2b(content.encode(), digest_size=16).hexdigest(),
        "input_kind": seen.input_kind,
        "notes": seen.notes,
        "largest_label": seen.largest_label,
        "largest_label_at": seen.largest_label_at,
        "shards": [(path.name, path.stat().st_size) for path in shards],
        "videos": records,
    }


def _entries(shard: int, path: Path, hashes: dict[str, str]) -> Iterator[tuple[str, Entry]]:
    """Where each member's bytes lie, read back from the headers of the finished tar."""
    with tarfile.open(path) as tar:
        for member in tar:
            yield member.name, Entry(shard, member.offset_data, member.size, hashes[member.name])


def _frames(video: RawVideo, options: PackOptions, pool: ThreadPoolExecutor) -> Iterator[_Frame]:
    for first in range(0, video.n_frames, BATCH_FRAMES):
        numbers = range(first, min(first + BATCH_FRAMES, video.n_frames))
        yield from pool.map(lambda i: _pack_frame(video, i, options), numbers)


def _pack_frame(video: RawVideo, i: int, options: PackOptions) -> _Frame:
    """Read and check all modalities of frame i."""
    members: dict[str, tuple[str, bytes]] = {}
    raw_size: Size = (0, 0)
    geometry, labels, task = None, Labels(options.task), options.data_task
    notes: dict[str, str] = {}
    for name, files in video.files.items():
        path, data = files[i], _read(files[i])
        content = task.modalities[name].read(data, str(path), raw_size if geometry else None)
        if not isinstance(content, Image.Image):
            members[name] = path.suffix.lower(), data
            continue
        if geometry is None:
            raw_size, geometry = content.size, _geometry(content.size, options)
        if name == "labels" and task.labels:
            labels = task.labels(content, str(path), options.label_nc)
        members[name] = encode(geometry.apply(content)) if options.width else (path.suffix.lower(), data)
        if NOTE in content.info:
            notes[content.info[NOTE]] = str(path)
    assert geometry is not None
    return _Frame(members, raw_size, geometry.size, labels, notes)


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_FRAME_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: unreadable image ({error}); replace the file or remove its video") from None


def _geometry(size: Size, options: PackOptions) -> Geometry:
    if options.width is None:
        return Geometry(size, (0, 0), (0, 0), flip=False)
    data = DataConfig(resize_or_crop="scaleWidth", loadSize=options.width)
    return clip_geometry(size, data, MIDDLE, may_flip=False)


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
