"""A shard folder: WebDataset tars plus `index.json`, which makes every frame reachable by one pread."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vid2vid_dist.data.tasks.registry import KINDS
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_file_name, is_printable, is_whole, parse_json, read_text, shown

FORMAT = "vid2vid_dist shards"
VERSION = 1
MAKE_SHARDS = "make shards SRC=<raw folder> OUT=<shard folder>"
MAX_INDEX_BYTES = 2**30
MAX_FRAME_BYTES = 2**28  # of one encoded frame
MAX_SIDE = 2**16  # pixels


class Entry(NamedTuple):
    """Where one encoded frame lies: shard number, offset and size in bytes, hash of its bytes."""

    shard: int
    offset: int
    size: int
    hash: str


@dataclass(frozen=True)
class Video:
    """One packed video; `entries[modality][frame]`. `size` is (width, height) in pixels."""

    name: str
    size: tuple[int, int]
    frames: list[str]
    entries: dict[str, list[Entry]]


def content_hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


class ShardIndex:
    """Checks one split and reads single frames, from any number of threads.

    Raises UserError when the folder is missing, foreign, of another version, or when a tar is
    missing or truncated.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        raw = _load(folder)
        try:
            self.shards = [_checked_shard(*shard) for shard in raw["shards"]]
            self.input_kind: str = _checked(raw, "input_kind", raw["input_kind"] in KINDS)
            self.largest_label: int = _checked(raw, "largest_label", is_whole(raw["largest_label"], -1))
            self.largest_label_at: str = _checked(raw, "largest_label_at", is_printable(raw["largest_label_at"]))
            self.hash: str = _checked(raw, "hash", is_printable(raw["hash"]))
            self.videos = [_checked_video(video) for video in raw["videos"]]
            self.modalities = set.intersection(*(set(video.entries) for video in self.videos))
            self.task = KINDS[self.input_kind]
            if missing := {*self.task.needed} - self.modalities:
                raise ValueError(f"no {min(missing)}")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{folder}/index.json is damaged ({error!r:.200}): run `{MAKE_SHARDS}` again"
            ) from None
        self._check_files()

    def read(self, video: int, modality: str, frame: int) -> bytes:
        """The encoded bytes of one frame, checked against their hash; touches nothing else of the tar."""
        entry = self.videos[video].entries[modality][frame]
        where = self.where(video, modality, frame)
        try:
            with (self.folder / self.shards[entry.shard][0]).open("rb", buffering=0) as tar:
                data = os.pread(tar.fileno(), entry.size, entry.offset)
        except OSError as error:
            raise UserError(f"{where}: cannot be read ({error}): run `{MAKE_SHARDS}` again") from None
        if content_hash(data) != entry.hash:
            raise UserError(
                f"{where}: the bytes differ from the index (damaged or foreign tar): "
                f"run `{MAKE_SHARDS}` again"
            )
        return data

    def where(self, video: int, modality: str, frame: int) -> str:
        """Names one frame in an error message."""
        entry = self.videos[video].entries[modality][frame]
        name = f"{self.videos[video].name}/{self.videos[video].frames[frame]}"
        return f"{modality} of {name} in {self.folder / self.shards[entry.shard][0]}"

    def has(self, modality: str) -> bool:
        """Whether every video has this modality."""
        return modality in self.modalities

    def _check_files(self) -> None:
        for name, size in self.shards:
            path = self.folder / name
            if not path.is_file():
                raise UserError(f"shard {path} is missing: run `{MAKE_SHARDS}` again")
            if path.stat().st_size != size:
                raise UserError(
                    f"shard {path} has {path.stat().st_size} bytes, the index says {size} "
                    f"(truncated or foreign tar): run `{MAKE_SHARDS}` again"
                )
        for video in self.videos:
            for entries in video.entries.values():
                if len(entries) != len(video.frames) or not all(map(self._is_inside, entries)):
                    raise UserError(
                        f"{self.folder}/index.json is damaged (frames of {video.name}): "
                        f"run `{MAKE_SHARDS}` again"
                    )

    def _is_inside(self, entry: Entry) -> bool:
        """Whether the bytes lie in a shard that there is, and are few enough to be a frame."""
        if entry.shard >= len(self.shards) or entry.size > MAX_FRAME_BYTES:
            return False
        return entry.offset + entry.size <= self.shards[entry.shard][1]


def _checked(fields: dict[str, Any], name: str, is_right: bool) -> Any:
    if not is_right:
        raise ValueError(name)
    return fields[name]


def _checked_shard(name: Any, size: Any) -> tuple[str, int]:
    if not (is_file_name(name) and is_whole(size)):
        raise ValueError("shards")
    return name, size


def _checked_video(video: dict[str, Any]) -> Video:
    """A video whose values are of the right types, and small enough to be handled."""
    size, frames = video["size"], video["frames"]
    if not (len(size) == 2 and all(is_whole(side, 1, MAX_SIDE) for side in size)):
        raise ValueError("size")
    if not (type(frames) is list and all(map(is_file_name, frames))):
        raise ValueError("frames")
    entries = {modality: [_checked_entry(*e) for e in entries] for modality, entries in video["entries"].items()}
    return Video(_checked(video, "name", is_printable(video["name"])), (size[0], size[1]), frames, entries)


def _checked_entry(shard: Any, offset: Any, size: Any, digest: Any) -> Entry:
    if not (is_whole(shard) and is_whole(offset) and is_whole(size, 1) and isinstance(digest, str)):
        raise ValueError("entries")
    return Entry(shard, offset, size, digest)


def _load(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    if not path.is_file():
        if any(folder.glob("*.tar")):
            raise UserError(
                f"{folder} holds tars but no index.json, so they are not ours: run `{MAKE_SHARDS}`"
            )
        raise UserError(
            f"no shards at {folder}: run `{MAKE_SHARDS}` (bare `make shards` makes the toy street) "
            "or set data.shards"
        )
    try:
        raw = parse_json(read_text(path, MAX_INDEX_BYTES))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged (not JSON: {error}): run `{MAKE_SHARDS}` again") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UserError(f"{path} is another program's: run `{MAKE_SHARDS}`")
    if raw.get("version") != VERSION:
        raise UserError(
            f"{path} has format version {shown(raw.get('version'))}, this program reads {VERSION}: "
            f"run `{MAKE_SHARDS}` again"
        )
    return raw
