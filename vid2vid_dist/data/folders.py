"""The raw layout `{train,test}_{A,B,inst}/SEQ/*` (spec: data 1).

Every directory at or below a modality's root that holds at least one image is a video; videos
and frames are taken in sorted order and matched between modalities by position.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_printable

SPLITS = ("train", "test")
MODALITIES = {"labels": "A", "images": "B", "instances": "inst", "flow": "flow"}
"""Modality -> ending of its folder. Only the rendered toy street has flow."""
SUFFIXES = tuple(".jpg .JPG .jpeg .JPEG .pgm .PGM .png .PNG .ppm .PPM .bmp .BMP .tiff".split())


@dataclass(frozen=True)
class RawVideo:
    """One video: its name (path below the modality root) and per modality its files in frame order."""

    name: str
    files: dict[str, list[Path]]

    @property
    def n_frames(self) -> int:
        return len(self.files["labels"])


def scan(root: Path, split: str) -> list[RawVideo]:
    """The videos of one split, [] when the split has no folder at all.

    Raises UserError when a needed modality is missing or when the counts differ.
    """
    found = {
        modality: _sequences(root / f"{split}_{ending}")
        for modality, ending in MODALITIES.items()
        if (root / f"{split}_{ending}").is_dir()
    }
    if not found:
        return []
    needed = ("labels", "images") if split == "train" else ("labels",)
    for modality in needed:
        if not found.get(modality):
            raise UserError(
                f"{root / f'{split}_{MODALITIES[modality]}'}: no {modality} found; put the frames of each "
                f"video into a folder of their own below it ({', '.join(SUFFIXES[::2])})"
            )
    names = [name for name, _ in found["labels"]]
    for modality, sequences in found.items():
        _check_counts(root, split, modality, found["labels"], sequences)
    return [
        RawVideo(name, {modality: sequences[i][1] for modality, sequences in found.items()})
        for i, name in enumerate(names)
    ]


def _sequences(root: Path) -> list[tuple[str, list[Path]]]:
    """(name, files) of every directory with images at or below `root`, sorted."""
    sequences = []
    seen: set[tuple[int, int]] = set()
    for directory, folders, files in os.walk(root, followlinks=True):
        where = os.stat(directory)
        if (where.st_dev, where.st_ino) in seen:  # links may lead in a circle
            folders.clear()
            continue
        seen.add((where.st_dev, where.st_ino))
        images = sorted(name for name in files if name.endswith(SUFFIXES))
        for name in (directory, *images):
            if not is_printable(name):
                raise UserError(f"{name!r} below {root}: control characters in a name; rename it")
        if images:
            path = Path(directory)
            name = path.relative_to(root).as_posix() if path != root else root.name
            sequences.append((directory, name, [path / image for image in images]))
    return [(name, paths) for _, name, paths in sorted(sequences)]


def _check_counts(
    root: Path,
    split: str,
    modality: str,
    labels: list[tuple[str, list[Path]]],
    other: list[tuple[str, list[Path]]],
) -> None:
    label_root, other_root = (root / f"{split}_{MODALITIES[m]}" for m in ("labels", modality))
    if len(other) != len(labels):
        raise UserError(
            f"{other_root} has {len(other)} videos but {label_root} has {len(labels)}: "
            "videos are matched by position, so both need the same folders"
        )
    for (label_name, label_files), (name, files) in zip(labels, other, strict=True):
        if len(files) != len(label_files):
            raise UserError(
                f"{other_root / name} has {len(files)} frames but {label_root / label_name} has "
                f"{len(label_files)}: frames are matched by position, so both need the same number"
            )
