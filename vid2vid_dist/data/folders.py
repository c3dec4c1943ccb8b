"""The raw layout `{train,test}_{A,B,inst}/SEQ/*` and its like for other tasks (spec: data 1).

Every directory at or below a modality's root that holds at least one file of its kind is a video;
videos and frames are taken in sorted order and matched between modalities by position.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.tasks.base import DataTask
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_printable

SPLITS = ("train", "test")


@dataclass(frozen=True)
class RawVideo:
    """One video: its name (path below the modality root) and per modality its files in frame order."""

    name: str
    files: dict[str, list[Path]]

    @property
    def first(self) -> list[Path]:
        """The files of the modality that names the frames."""
        return next(iter(self.files.values()))

    @property
    def n_frames(self) -> int:
        return len(self.first)


def scan(root: Path, split: str, task: DataTask | None = None) -> list[RawVideo]:
    """The videos of one split, [] when the split has no folder at all; `task` None = the default one.

    Raises UserError when a needed modality is missing or when the counts differ.
    """
    task = task or task_of(DataConfig())
    roots = {name: root / f"{split}_{modality.folder}" for name, modality in task.modalities.items()}
    found = {name: _sequences(folder, task.modalities[name].suffixes)
             for name, folder in roots.items() if folder.is_dir()}
    if not found:
        return []
    needed = {*task.needed, *(["images"] if split == "train" else [])}
    for name in (name for name in roots if name in needed or name in found):
        if not found.get(name):
            suffixes = sorted({suffix.lower() for suffix in task.modalities[name].suffixes})
            raise UserError(
                f"{roots[name]}: no {name} found; put the frames of each "
                f"video into a folder of their own below it ({', '.join(suffixes)})"
            )
    if not found.keys() & {*(inputs := task.inputs(DataConfig()))}:
        raise UserError(f"{root} has no {' or '.join(f'{roots[name].name}/' for name in inputs)}: "
                        f"data.task={task.name} needs at least one of them")
    first = next(iter(found))
    for modality in found:
        _check_counts(roots[first], found[first], roots[modality], found[modality])
    return [
        RawVideo(name, {modality: sequences[i][1] for modality, sequences in found.items()})
        for i, (name, _) in enumerate(found[first])
    ]


def _sequences(root: Path, suffixes: tuple[str, ...]) -> list[tuple[str, list[Path]]]:
    """(name, files) of every directory with files of these endings at or below `root`, sorted."""
    sequences = []
    seen: set[tuple[int, int]] = set()
    for directory, folders, files in os.walk(root, followlinks=True):
        where = os.stat(directory)
        if (where.st_dev, where.st_ino) in seen:  # links may lead in a circle
            folders.clear()
            continue
        seen.add((where.st_dev, where.st_ino))
        images = sorted(name for name in files if name.endswith(suffixes))
        for name in (directory, *images):
            if not is_printable(name):
                raise UserError(f"{name!r} below {root}: control characters in a name; rename it")
        if images:
            path = Path(directory)
            name = path.relative_to(root).as_posix() if path != root else root.name
            sequences.append((directory, name, [path / image for image in images]))
    return [(name, paths) for _, name, paths in sorted(sequences)]


def _check_counts(
    first_root: Path,
    first: list[tuple[str, list[Path]]],
    other_root: Path,
    other: list[tuple[str, list[Path]]],
) -> None:
    if len(other) != len(first):
        raise UserError(
            f"{other_root} has {len(other)} videos but {first_root} has {len(first)}: "
            "videos are matched by position, so both need the same folders"
        )
    for (first_name, first_files), (name, files) in zip(first, other, strict=True):
        if len(files) != len(first_files):
            raise UserError(
                f"{other_root / name} has {len(files)} frames but {first_root / first_name} has "
                f"{len(first_files)}: frames are matched by position, so both need the same number"
            )
