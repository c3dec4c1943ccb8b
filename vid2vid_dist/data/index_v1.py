"""The first version of index.json, which holds every entry itself: read into columns, in memory."""

from typing import Any

import numpy as np

from vid2vid_dist.data.columns import ENTRY, FILM, MAX_FRAME_BYTES, MAX_SIDE, VIDEO, Columns
from vid2vid_dist.untrusted import is_file_name, is_printable, is_whole


def columns_of(where: str, videos: Any) -> tuple[list[str], Columns]:
    """The modalities that every video has, and the columns. Raises what damaged values raise, above all `ValueError`.

    videos: [{"name", "size": [width, height], "frames": [name], "entries": {modality: [[shard, offset, size, hash]]}}]
    """
    modalities = sorted(set.intersection(*({*video["entries"]} for video in videos)))
    columns: dict[str, list[tuple[int, int, int, int]]] = {modality: [] for modality in modalities}
    rows, names, end = [], [], 0
    for video in videos:
        size, frames, name = video["size"], video["frames"], video["name"]
        if not (len(size) == 2 and all(is_whole(side, 1, MAX_SIDE) for side in size)):
            raise ValueError("size")
        if not (type(frames) is list and frames and all(map(is_file_name, frames)) and is_printable(name)):
            raise ValueError("frames" if is_printable(name) else "name")
        for modality, column in columns.items():
            entries = [_entry(*entry) for entry in video["entries"][modality]]
            if len(entries) != len(frames) or None in entries:
                raise ValueError(f"frames of {name}")
            column += filter(None, entries)
        end += len(frames)
        rows.append((end, *size))
        names += frames
    encoded = [text.encode() for text in (*names, *(video["name"] for video in videos))]
    return modalities, Columns(
        where=where,
        entries=np.array([columns[modality] for modality in modalities], ENTRY).reshape(len(modalities), end),
        videos=np.array(rows, VIDEO),
        films=np.empty((0, end), FILM),
        ends=np.cumsum([len(text) for text in encoded], dtype=np.uint64),
        text=np.frombuffer(b"".join(encoded), np.uint8),
    )


def _entry(shard: Any, offset: Any, size: Any, digest: Any) -> tuple[int, int, int, int] | None:
    """A row of ENTRY, None for one that no tar and no frame can have."""
    if not (is_whole(shard) and is_whole(offset) and is_whole(size, 1) and isinstance(digest, str)):
        raise ValueError("entries")
    if shard >= 2**32 or size > MAX_FRAME_BYTES or len(digest) != 16:
        return None
    return offset, int.from_bytes(bytes.fromhex(digest)), size, shard
