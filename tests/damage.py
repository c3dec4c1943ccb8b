"""Damage to shards as disks and copies do it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from vid2vid_dist.data.index import content_hash


def spoil_picture(shards: Path, video: int = 0, split: str = "train") -> None:
    """The bytes are as the index says, but they are no image."""
    def change(index: dict) -> None:
        entry = index["videos"][video]["entries"]["images"][2]
        with (shards / split / "shard-000000.tar").open("r+b") as tar:
            tar.seek(entry[1])
            tar.write(bytes(entry[2]))
        entry[3] = content_hash(bytes(entry[2]))

    edit_index(shards, change, split)


def edit_index(shards: Path, change: Callable[[dict], object], split: str = "train") -> None:
    """Change the index file in place."""
    path = shards / split / "index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def seal(checkpoint: Path) -> None:
    """Make the manifest tell the files as they are now: what is wrong with them is to be seen in themselves."""
    files = {str(path.relative_to(checkpoint)): {"bytes": path.stat().st_size,
                                                 "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
             for path in checkpoint.rglob("*") if path.is_file() and path.name != "manifest.json"}
    (checkpoint / "manifest.json").write_text(json.dumps({"n_files": len(files), "files": files}))
