"""A shard folder: WebDataset tars, and an index that makes every frame reachable by one pread.

`index.json` says what the split is and names its tars and its columns (`data.columns`), which ranks share.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vid2vid_dist.data import index_v1
from vid2vid_dist.data.columns import PICTURE, Columns, Counts, Names, check, map_columns, of_frames
from vid2vid_dist.data.film import Film, FilmBytes, Films
from vid2vid_dist.data.lazy import LazySequence
from vid2vid_dist.data.store import MAKE_SHARDS, Entry, Folder, Shard, Store, content_hash
from vid2vid_dist.data.tasks.registry import KINDS
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_file_name, is_printable, is_whole, parse_json, read_text, shown

FORMAT = "vid2vid_dist shards"
VERSION = 3
"""Written where there are video files; 2 where there are none, which earlier programs read too."""
INDEX = "index.json"
MAX_INDEX_BYTES = 2**30
MAX_COUNT = 2**40


@dataclass(frozen=True)
class Video:
    """One packed video. `size` is (width, height) in pixels."""

    name: str
    size: tuple[int, int]
    frames: Names


class Videos(LazySequence[Video]):
    """The videos of a split, each put together when it is asked for."""

    def __init__(self, columns: Columns) -> None:
        super().__init__(len(columns.videos))
        self._columns = columns

    def make(self, number: int) -> Video:
        row = self._columns.videos[number]
        size = int(row["width"]), int(row["height"])
        return Video(self._columns.video_names[number], size, self._columns.frame_names(number))


class ShardIndex:
    """Checks one split and reads single frames, from any number of threads.

    check_tars: whether to ask for every tar's size; one rank of many does. The others see the sizes of those they open.
    Raises UserError when the folder is missing, foreign, of another version, or when a tar is missing or truncated.
    """

    def __init__(self, where: Path | Store, check_tars: bool = True, file: str = INDEX) -> None:
        self.films = Films()
        self._store = store = Folder(where) if isinstance(where, Path) else where
        self.folder = store.where
        raw = _load(store, file)
        try:
            self.shards = [_checked_shard(*shard) for shard in raw["shards"]]
            self.input_kind: str = _checked(raw, "input_kind", raw["input_kind"] in KINDS)
            self.largest_label: int = _checked(raw, "largest_label", is_whole(raw["largest_label"], -1))
            self.largest_label_at: str = _checked(raw, "largest_label_at", is_printable(raw["largest_label_at"]))
            self.hash: str = _checked(raw, "hash", is_printable(raw["hash"]))
            self.columns_file = (store.file(_checked(raw, "columns", is_file_name(raw["columns"])))
                                 if raw["version"] > 1 else None)
            names, self._columns = _columns(f"{self.folder}/{file}", raw, self.columns_file)
            self._rows = {modality: row for row, modality in enumerate(names)}
            self._films = {modality: row for row, modality in enumerate(_film_names(raw, names))}
            self.modalities = {*names}  # that every video has
            self.task = KINDS[self.input_kind]
            if missing := {*self.task.needed} - self.modalities:
                raise ValueError(f"no {min(missing)}")
            check(self._columns, [shard.size for shard in self.shards], [self._rows[name] for name in self._films])
        except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            raise UserError(f"{self.folder}/{file} is damaged ({error!r:.200}): {store.fix}") from None
        self.lengths = self._columns.lengths
        self.videos = Videos(self._columns)
        if check_tars:
            store.check(self.shards)

    def one_of_each_size(self, n_videos: int) -> list[int]:
        """Of the first videos one of every width and height."""
        videos = self._columns.videos[:n_videos]
        sizes = videos["width"].astype(np.uint64) << 32 | videos["height"]
        return np.unique(sizes, return_index=True)[1].tolist()

    def entry(self, video: int, modality: str, frame: int) -> Entry:
        """Where a frame's bytes lie."""
        assert 0 <= frame < self.lengths[video], f"frame {frame} of video {video}"
        row = self._columns.entries[self._rows[modality], self._columns.first(video) + frame]
        return Entry(int(row["shard"]), int(row["offset"]), int(row["size"]), f"{int(row['hash']):016x}")

    def read(self, video: int, modality: str, frame: int) -> bytes:
        """The encoded bytes of one frame, checked against their hash; touches nothing else of the tar."""
        entry = self.entry(video, modality, frame)
        try:
            data = self._bytes(entry)
        except OSError as error:
            where = self.where(video, modality, frame)
            raise UserError(f"{where}: cannot be read ({error}): {self._store.fix}") from None
        if content_hash(data) != entry.hash:
            raise UserError(f"{self.where(video, modality, frame)}: the bytes differ from the index (damaged or "
                            f"foreign tar): {self._store.fix}")
        return data

    def of_frames(self) -> str:
        """A hash of the frames, whatever tars they lie in, and of their sizes and videos: found anew from the entries.

        Unlike `hash`, which the index says of itself, it changes with whatever an index that was edited reads.
        """
        return of_frames(self._columns, self._rows, self.input_kind)

    def prepare(self, video: int, wanted: Iterable[tuple[str, int]]) -> None:
        """That these frames (modality, number) of a video are read next; of a video file its decoder knows better."""
        entries = [self.entry(video, modality, frame) for modality, frame in wanted
                   if modality in self.modalities and self.film(video, modality) is None]
        self._store.prepare([(self.shards[entry.shard], entry) for entry in entries])

    def film(self, video: int, modality: str) -> Film | None:
        """The video file that holds this modality, None where each frame is a file of its own."""
        if modality not in self._films:
            return None
        first = self._columns.first(video)
        films = self._columns.films[self._films[modality], first : first + int(self.lengths[video])]
        if films["start"][0] == PICTURE:
            return None
        entry, name = self.entry(video, modality, 0), f"the video file of {self.where(video, modality, 0)}"
        return Film((video, modality), films, lambda: FilmBytes(name, entry, self._bytes), self.videos[video].size)

    def _bytes(self, entry: Entry) -> bytes:
        return self._store.read(self.shards[entry.shard], entry)

    def where(self, video: int, modality: str, frame: int) -> str:
        """Names one frame in an error message."""
        packed, shard = self.videos[video], self.shards[self.entry(video, modality, frame).shard]
        return f"{modality} of {packed.name}/{packed.frames[frame]} in {self.folder}/{shard.name}"


def _checked(fields: dict[str, Any], name: str, is_right: bool) -> Any:
    if not is_right:
        raise ValueError(name)
    return fields[name]


def _checked_shard(name: Any, size: Any, digest: Any = "") -> Shard:
    if not (is_file_name(name) and is_whole(size) and is_printable(digest)):
        raise ValueError("shards")
    return Shard(name, size, digest)


def _columns(where: str, raw: dict[str, Any], file: Path | None) -> tuple[list[str], Columns]:
    """The modalities, in the order of the entries, and the columns."""
    if file is None:
        return index_v1.columns_of(where, raw["videos"])
    names, counts = raw["modalities"], raw["counts"]
    if not (type(names) is list and all(map(is_file_name, names)) and len({*names}) == len(names)):
        raise ValueError("modalities")
    if not (len(counts) == 3 and all(is_whole(count, 0, MAX_COUNT) for count in counts.values())):
        raise ValueError("counts")
    return names, map_columns(where, file, Counts(len(names), **counts, films=len(_film_names(raw, names))))


def _film_names(raw: dict[str, Any], names: list[str]) -> list[str]:
    """The modalities that are video files in some video."""
    films = raw.get("films", [])
    return _checked({"films": films}, "films", type(films) is list and {*films} <= {*names}
                    and len({*films}) == len(films))


def _load(store: Store, name: str) -> dict[str, Any]:
    path, where = store.file(name), f"{store.where}/{name}"
    if not path.is_file():
        if any(path.parent.glob("*.tar")):
            raise UserError(f"{store.where} holds tars but no index.json, so they are not ours or not all there: "
                            f"{store.fix}")
        named = path.parent.parent  # as data.shards or --input has it
        split = next((folder for folder in (named, named.parent) if (folder / INDEX).is_file()), None)
        if split is not None:
            raise UserError(f"{named} is of one split: name the folder of all splits, {split.parent}")
        raise UserError(f"no shards at {store.where}: run `{MAKE_SHARDS}` or set data.shards "
                        "(bare `vid2vid-shards` makes the toy street, with `--task face` and so on other toys)")
    try:
        raw = parse_json(read_text(path, MAX_INDEX_BYTES))
    except (OSError, ValueError) as error:
        raise UserError(f"{where} is damaged (not JSON: {error}): {store.fix}") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UserError(f"{where} is another program's: run `{MAKE_SHARDS}`")
    if type(raw.get("version")) is not int or not 1 <= raw["version"] <= VERSION:
        raise UserError(f"{where} has format version {shown(raw.get('version'))}, this program reads 1 to {VERSION}: "
                        f"{store.fix}")
    return raw
