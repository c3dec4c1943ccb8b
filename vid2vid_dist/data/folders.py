"""The raw layout `{train,test}_{A,B,inst}/SEQ/*` and its like for other tasks (spec: data 1).

Every directory at or below a modality's root that holds at least one file of its kind is a video. Numbers in names
sort as numbers. Frames of several modalities belong together when what tells them apart in their folders agrees:
`07_label.png` goes with `frame007.png`. What does not agree is refused, never matched by position.

Where a modality is of colours, a video may be a file instead of a folder: `train_B/street.mp4` goes with the folder
`train_A/street`, frame by frame, if there are as many in both and no number is left out.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.film import FILM_SUFFIXES, is_film
from vid2vid_dist.data.images import IMAGE_SUFFIXES
from vid2vid_dist.data.tasks.base import DataTask
from vid2vid_dist.data.tasks.registry import task_of
from vid2vid_dist.data.video_file import count_frames
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_printable

log = logging.getLogger(__name__)

SPLITS = ("train", "test")
NO_FOLDERS = ("@eaDir", "__MACOSX")
"""What file servers and archives put beside folders: thumbnails and attributes of the same names."""
UNREAD = tuple(".avif .cr2 .dds .dng .exr .gif .hdr .heic .heif .jp2 .jxl .nef .pfm .psd .svg .tga "
               ".avi .m4v .mkv .mov .mp4 .mpg .ts .webm".split())
"""Pictures and videos that are not read: among frames one of them is a frame that would be missing."""

Videos = dict[str, list[Path]]
Key = tuple[Any, ...]
"""Texts and whole numbers of a file's name."""


@dataclass(frozen=True)
class RawVideo:
    """One video: its name (path below the modality root) and per modality its files in frame order; of a video file,
    that file for each frame."""

    name: str
    files: dict[str, list[Path]]

    @property
    def first(self) -> list[Path]:
        """The files of the modality that names the frames."""
        return next((files for files in self.files.values() if not is_film(files[0])), next(iter(self.files.values())))

    @property
    def frame_names(self) -> list[str]:
        return [f"{i:06d}" if is_film(path) else path.stem for i, path in enumerate(self.first)]

    @property
    def n_frames(self) -> int:
        return len(self.first)


def scan(root: Path, split: str, task: DataTask | None = None, split_at_jumps: bool = False) -> list[RawVideo]:
    """The videos of one split, [] when the split has no folder at all; `task` None = the default one.

    Where the numbering inside a folder jumps, a new video begins if `split_at_jumps`; else it is warned of.
    Raises UserError when a needed modality is missing, for frames without a partner in another modality, and for files
    that cannot be frames.
    """
    task = task or task_of(DataConfig())
    roots = {name: root / f"{split}_{modality.folder}" for name, modality in task.modalities.items()}
    found = {name: dict(_sequences(folder, task.modalities[name].suffixes, task.modalities[name].may_be_film))
             for name, folder in roots.items() if folder.is_dir()}
    if not found:
        return []
    needed = {*task.needed, *(["images"] if split == "train" else [])}
    for name in (name for name in roots if name in needed or name in found):
        if not found.get(name):
            raise UserError(f"{roots[name]}: no {name} found; put the frames of each video into a folder of their own "
                            f"below it ({', '.join(task.modalities[name].suffixes)})")
    if not found.keys() & {*(inputs := task.inputs(DataConfig()))}:
        raise UserError(f"{root} has no {' or '.join(f'{roots[name].name}/' for name in inputs)}: "
                        f"data.task={task.name} needs at least one of them")
    first = next(iter(found))
    for name in found:
        _require_same_videos(roots[first], found[first], roots[name], found[name])
    videos = [RawVideo(video or roots[first].name, _paired({name: found[name][video] for name in found}))
              for video in found[first]]
    return _at_jumps(videos, split_at_jumps)


def natural(name: str) -> Key:
    """Sorts as people do: frame_9 before frame_10. Texts and whole numbers take turns, a text first."""
    return tuple(int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", name)))


def keys_of(files: Sequence[Path]) -> list[Key]:
    """What tells the files of a folder apart: of names built alike the texts and numbers that differ, else all."""
    rows = [natural(path.stem) for path in files]
    if len({len(row) for row in rows}) > 1:
        return rows
    columns = [column for column in zip(*rows, strict=True) if len({*column}) > 1]
    for texts in (column for column in columns if isinstance(column[0], str)):
        if {*texts} == {min(texts), min(texts) + "-"}:
            raise UserError(f"{files[texts.index(max(texts))]}: is its number below 0? Number frames from 0")
    return list(zip(*columns, strict=True)) if columns else [()] * len(rows)


def _sequences(root: Path, suffixes: tuple[str, ...], may_be_film: bool) -> Iterator[tuple[str, list[Path]]]:
    """Path below `root` ("" = itself) and files of every directory with files of these endings, in order; if
    `may_be_film`, of every video file too, without its ending."""
    pictures = {*IMAGE_SUFFIXES} & {*suffixes}
    for folder, files in sorted(walk(root), key=lambda found: [natural(part) for part in found[0].parts]):
        for path in (folder, *files):
            if not is_printable(path.name):
                raise UserError(f"{path.name!r} below {root}: control characters in a name, or some that "
                                "this locale cannot read: rename it, or set LC_ALL=C.UTF-8")
        films = [path for path in files if may_be_film and is_film(path)]
        foreign = {*UNREAD, *IMAGE_SUFFIXES} - {*suffixes, *(FILM_SUFFIXES if may_be_film else ())}
        if pictures and (unread := [path for path in files if path.suffix.lower() in foreign]):
            raise UserError(f"{min(unread)}: {min(unread).suffix} is not read: store frames as {', '.join(suffixes)} "
                            "(`python -m vid2vid_dist prepare-video` takes them out of a video), or move it away")
        frames = sorted((f for f in files if f.suffix.lower() in suffixes), key=lambda f: (natural(f.stem), f.name))
        for a, b in pairwise(frames):
            if natural(a.stem) == natural(b.stem):
                raise UserError(f"{a} and {b.name} have one number: remove one of them")
            tails = [re.search(r"[0-9]\.([0-9]+)$", path.stem) for path in (a, b)]
            if tails[0] and tails[1] and len(tails[0][1]) != len(tails[1][1]):
                raise UserError(f"{a} and {b.name}: to tell which is first, write as many digits after both points")
        if frames:
            if films:
                raise UserError(f"{films[0]} lies among frames: give each video a folder, or a file, of its own")
            yield folder.relative_to(root).as_posix().removeprefix("."), frames
        for path in films:
            name = path.relative_to(root).with_suffix("")
            if (root / name).is_dir() or [other.stem for other in films].count(path.stem) > 1:
                raise UserError(f"{path}: there is another video of this name beside it: remove one")
            yield name.as_posix(), [path]


def walk(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Every directory at or below `root`, through links, and its files; what begins with a dot is hidden."""
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            where = os.stat(folder)
            entries = [entry for entry in os.scandir(folder) if entry.name[0] != "." and entry.name not in NO_FOLDERS]
            folders = {entry.path for entry in entries if entry.is_dir()}
        except OSError as error:
            raise UserError(f"{folder} cannot be read ({error.strerror}): mend or remove it") from None
        here = where.st_dev, where.st_ino
        if here in above:
            raise UserError(f"{folder} is a link to a folder that it lies in: remove it")
        for entry in entries:
            if entry.is_symlink() and not os.path.exists(entry.path):
                raise UserError(f"{entry.path} is a link that leads nowhere: mend or remove it")
        yield folder, [Path(entry.path) for entry in entries if entry.path not in folders]
        waiting += [(Path(path), above | {here}) for path in folders]


def _require_same_videos(first_root: Path, first: Videos, other_root: Path, other: Videos) -> None:
    for here, videos, there, others in ((first_root, first, other_root, other), (other_root, other, first_root, first)):
        for name in videos:
            if name not in others:
                raise UserError(f"{here / name} has no partner: {there} has no folder of frames of this name (it has "
                                f"{len(others)}, {here} {len(videos)}); a video has one name in all of them")


def _paired(found: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """The files of a video's modalities, those of a frame at the same place in each."""
    films = {name: files[0] for name, files in found.items() if is_film(files[0])}
    first = next((files for name, files in found.items() if name not in films), None)
    if first is None:
        counts = {path: count_frames(path)[0] for path in films.values()}
        if len({*counts.values()}) > 1:
            raise UserError(f"video files of one name with {', '.join(f'{n} ({path})' for path, n in counts.items())} "
                            "frames: those of a video have the same number")
        return {name: [path] * counts[path] for name, path in films.items()}
    if films and (places := jumps(keys_of(first))):
        raise UserError(f"{next(iter(films.values()))} has a frame for each number, but after {first[places[0] - 1]} "
                        f"comes {first[places[0]].name}: none may be left out")
    return {name: [films[name]] * len(first) if name in films else _partners(first, files)
            for name, files in found.items()}


def _partners(first: list[Path], other: list[Path]) -> list[Path]:
    """The file of `other` that belongs to each of `first`."""
    ours, theirs = (dict(zip(keys_of(files), files, strict=True)) for files in (first, other))
    if len(first) == len(other) == 1:  # nothing tells them apart: they have the same numbers, or begin with the same
        few, many = sorted((natural(path.stem) for path in (*first, *other)), key=len)
        if few[1::2] != many[1::2] and few[:-1] != many[: len(few) - 1]:
            theirs = {}
    for here, partners, there in ((ours, theirs, other), (theirs, ours, first)):
        for number, (key, path) in enumerate(here.items()):
            if key not in partners:
                near = there[min(number, len(there) - 1)]
                raise UserError(f"{path} has no partner in {near.parent}, where {near.name} stands ({len(here)} and "
                                f"{len(there)} frames): frames belong together by the numbers in their names")
    return [theirs[key] for key in ours]


def _at_jumps(videos: list[RawVideo], split: bool) -> list[RawVideo]:
    """Videos of which each has one numbering; if not `split` the same ones, and a warning."""
    parts, told = [], []
    for video in videos:
        cuts = [0, *([] if is_film(video.first[0]) else jumps(keys_of(video.first))), video.n_frames]
        told += [video.first[cut - 1 : cut + 1] for cut in cuts[1:-1]]
        parts += [video] if len(cuts) == 2 else [
            RawVideo(f"{video.name}/{video.first[a].stem}", {name: files[a:b] for name, files in video.files.items()})
            for a, b in pairwise(cuts)]
    if told and not split:
        log.warning("the numbers jump in %d places, first from %s to %s: neighbours there are taken for neighbours in "
                    "time; --split-at-jumps makes a video of each part",
                    len(told), told[0][0], told[0][1].name)
    return parts if split else videos


def jumps(keys: Sequence[Key]) -> list[int]:
    """Where the last number does not go on by its usual step, or something else changes too."""
    steps = []
    for a, b in pairwise(keys):
        last = max((i for i, part in enumerate(a) if isinstance(part, int)), default=-1)
        same = last >= 0 and len(a) == len(b) and (*a[:last], *a[last + 1 :]) == (*b[:last], *b[last + 1 :])
        steps.append(b[last] - a[last] if same else None)
    usual = Counter(step for step in steps if step is not None).most_common(1)
    if not usual or usual[0][1] < len(steps) / 2:  # no numbering that could jump
        return []
    return [i + 1 for i, step in enumerate(steps) if step != usual[0][0]]
