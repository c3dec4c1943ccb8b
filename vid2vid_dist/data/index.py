"""A shard folder: WebDataset tars plus `index.json`, which makes every frame reachable by one pread."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vid2vid_dist.errors import UserError

FORMAT = "vid2vid_dist shards"
VERSION = 1
MAKE_SHARDS = "make shards SRC=<raw folder> OUT=<shard folder>"


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
            self.shards = [(str(name), int(size)) for name, size in raw["shards"]]
            self.input_kind: str = raw["input_kind"]
            self.largest_label: int = raw["largest_label"]
            self.largest_label_at: str = raw["largest_label_at"]
            self.hash: str = raw["hash"]
            self.videos = [
                Video(
                    v["name"],
                    (v["size"][0], v["size"][1]),
                    v["frames"],
                    {m: [Entry(*e) for e in entries] for m, entries in v["entries"].items()},
                )
                for v in raw["videos"]
            ]
            self.modalities = set.intersection(*(set(video.entries) for video in self.videos))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(
                f"{folder}/index.json is damaged ({error!r}): run `{MAKE_SHARDS}` again"
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
            if Path(name).name != name or not path.is_file():
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
        """Whether the bytes lie in a shard that there is; so no read can be larger than its tar."""
        if not 0 <= entry.shard < len(self.shards):
            return False
        return 0 <= entry.offset < entry.offset + entry.size <= self.shards[entry.shard][1]


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
        raw = json.loads(path.read_bytes())
    except ValueError:
        raise UserError(f"{path} is damaged (not JSON): run `{MAKE_SHARDS}` again") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UserError(f"{path} is another program's: run `{MAKE_SHARDS}`")
    if raw.get("version") != VERSION:
        raise UserError(
            f"{path} has format version {raw.get('version')}, this program reads {VERSION}: "
            f"run `{MAKE_SHARDS}` again"
        )
    return raw
