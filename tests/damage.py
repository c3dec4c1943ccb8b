"""Damage to shards as disks and copies do it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.store import content_hash


def spoil_picture(shards: Path, video: int = 0, split: str = "train", modality: str = "images", frame: int = 2
                  ) -> None:
    """The bytes are as the index says, but they are no image."""
    def change(index: dict) -> None:
        entry = index["videos"][video]["entries"][modality][frame]
        with tar_of(shards / split).open("r+b") as tar:
            tar.seek(entry[1])
            tar.write(bytes(entry[2]))
        entry[3] = content_hash(bytes(entry[2]))

    edit_index(shards, change, split)


def tar_of(folder: Path, number: int = 0) -> Path:
    """A tar of a split."""
    (tar,) = folder.glob(f"shard-{number:06d}-*.tar")
    return tar


def as_version_1(folder: Path) -> Path:
    """Write the index of a split as the first version did, every entry in index.json; gives its path."""
    index, path = ShardIndex(folder, check_tars=False), folder / "index.json"
    raw = json.loads(path.read_text())
    if raw["version"] == 1:
        return path
    videos = [{
        "name": video.name, "size": video.size, "frames": [*video.frames],
        "entries": {m: [index.entry(number, m, i) for i in range(len(video.frames))] for m in raw["modalities"]},
    } for number, video in enumerate(index.videos)]
    index.columns_file.unlink()
    kept = {key: value for key, value in raw.items() if key not in ("modalities", "columns", "counts")}
    path.write_text(json.dumps(kept | {"version": 1, "videos": videos, "shards": [s[:2] for s in raw["shards"]]}))
    return path


def edit_index(shards: Path, change: Callable[[dict], object], split: str = "train") -> None:
    """Change the index file, of version 1, in place."""
    path = as_version_1(shards / split)
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def seal(checkpoint: Path) -> None:
    """Make the manifest tell the files as they are now: what is wrong with them is to be seen in themselves."""
    files = {str(path.relative_to(checkpoint)): {"bytes": path.stat().st_size,
                                                 "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
             for path in checkpoint.rglob("*") if path.is_file() and path.name != "manifest.json"}
    (checkpoint / "manifest.json").write_text(json.dumps({"n_files": len(files), "files": files}))
