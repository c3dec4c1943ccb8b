"""Raw folders -> WebDataset tars, their index and a contact sheet to look at.

A tar member is called `00003-name/000012.labels.png`: webdataset groups the modalities of a frame
into one sample, and sorted keys keep videos and frames in order. Original bytes are kept unless a
width is asked for; then images are resized bicubically, ids by nearest, to the size that
`scaleWidth` gives them, and both are stored as PNG: training with scaleWidth at that width sees
exactly the pixels that it would see of the full-size files.

Tars and columns are named after their contents and written beside those in use; the last step of packing replaces
`index.json`. So there is a whole set at any time, and what is done stays done (`data.packing`), whoever was killed.
"""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from vid2vid_dist.data.atomic import locked
from vid2vid_dist.data.columns import PICTURE, Counts, columns_name, new_columns
from vid2vid_dist.data.contact import CONTACT_SHEET, contact_sheet
from vid2vid_dist.data.film import is_film
from vid2vid_dist.data.folders import SPLITS, RawVideo, scan
from vid2vid_dist.data.index import FORMAT, INDEX, VERSION, ShardIndex
from vid2vid_dist.data.packing import (
    PARTIAL,
    RECORDS,
    PackOptions,
    Record,
    Seen,
    TarPlan,
    load_record,
    pack_tar,
    plan_tars,
    written,
)
from vid2vid_dist.data.progress import progress
from vid2vid_dist.data.workers import end_with
from vid2vid_dist.errors import UserError

__all__ = ["PackOptions", "make_shards"]
Part = tuple[int, int]
"""Part i of n, i from 1."""


def make_shards(source: Path, out: Path, options: PackOptions, force: bool = False, workers: int = 1,
                part: Part | None = None) -> list[str]:
    """Pack every split of `source` into out/train and out/test; returns one line to print per split.

    What is up to date is left alone unless `force`. workers: processes, 1 = only this one. part: only the tars of this
    part; when all parts are done, the same without `part` finishes. Raises UserError naming the first bad file.
    """
    task = options.data_task
    endings = [modality.folder for modality in task.modalities.values()]
    if options.width and not task.resizable:
        raise UserError(f"--size {options.width} with --task {task.name}: keypoints are pixels of the full frames, "
                        "which are stored as they are; leave --size out, data.loadSize scales them in training")
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; it needs train_{endings[0]}/, train_{endings[1]}/, ...")
    splits = {split: videos for split in SPLITS if (videos := scan(source, split, task, options.split_at_jumps))}
    films = [file for videos in splits.values() for video in videos for file, *_ in video.files.values()
             if is_film(file)]
    if options.width and films:
        raise UserError(f"--size {options.width} with {films[0]}: video files are kept as they are; leave --size out, "
                        "data.loadSize scales in training")
    if not splits:
        raise UserError(f"{source} has no train_{endings[0]}/ or test_{endings[0]}/: below each belongs one folder of "
                        "frames per video")
    return [_make_split(videos, out / split, options, force, workers, part) for split, videos in splits.items()]


def _make_split(videos: list[RawVideo], folder: Path, options: PackOptions, force: bool, workers: int,
                part: Part | None) -> str:
    with locked(folder, shared=part is not None):
        if folder.exists() and not ((folder / INDEX).is_file() or (folder / RECORDS).is_dir()):
            raise UserError(f"{folder} exists and is no shard folder: move it away or choose another OUT")
        plans = plan_tars(videos, options)
        mine = plans[part[0] - 1 :: part[1]] if part else plans
        (folder / RECORDS).mkdir(parents=True, exist_ok=True)
        for plan in mine if force else ():
            (folder / plan.record).unlink(missing_ok=True)
        if not part and _is_current(folder, plans):
            _clear(folder, plans)
            return f"{folder}: up to date"
        seen = _pack(mine, folder, options, workers)
        if part:
            return f"{folder}: part {part[0]} of {part[1]}: {len(mine)} of {len(plans)} shards"
        index = _join(videos, plans, seen, folder)
        _clear(folder, plans)
    mebibytes = sum(shard.size for shard in index.shards) / 2**20
    notes = "".join(f"; {note} (first {where})" for note, where in seen.notes.items())
    return (f"{folder}: {len(index.videos)} videos, {index.lengths.sum()} frames, {len(index.shards)} shards, "
            f"{mebibytes:.1f} MiB{notes}; look at {folder / CONTACT_SHEET}")


def _is_current(folder: Path, plans: list[TarPlan]) -> bool:
    """Whether the set in force is of these sources, and nothing of it is missing or known to be damaged."""
    try:
        file = ShardIndex(folder).columns_file
    except UserError:
        return False
    source = json.loads((folder / INDEX).read_bytes()).get("source")
    return (source == _source(plans) and file is not None and file.name == columns_name(file)
            and all((folder / plan.record).is_file() for plan in plans))


def _source(plans: list[TarPlan]) -> str:
    return hashlib.blake2b("".join(plan.fingerprint for plan in plans).encode(), digest_size=16).hexdigest()


def _pack(plans: list[TarPlan], folder: Path, options: PackOptions, workers: int) -> Seen:
    """Pack what is not done; what was seen in all of it. Raises UserError for the first bad file, in their order."""
    seen, waiting = Seen(), [plan for plan in plans if load_record(plan, folder) is None]
    n_waiting = sum(plan.n_frames for plan in waiting)
    with ExitStack() as stack:
        done = iter(_packed(waiting, folder, options, min(workers, len(waiting)), stack))
        bar = stack.enter_context(progress())
        task = bar.add_task(str(folder), total=sum(plan.n_frames for plan in plans), unit="frames")
        bar.advance(task, sum(plan.n_frames for plan in plans) - n_waiting)
        left = {plan.number for plan in waiting}
        for plan in plans:
            if plan.number in left:
                next(done)
                bar.advance(task, plan.n_frames)
            record = load_record(plan, folder)
            assert record is not None
            seen.add(record.seen)
    return seen


def _packed(plans: list[TarPlan], folder: Path, options: PackOptions, workers: int, stack: ExitStack) -> Iterator[None]:
    """Yields when the next one is packed. Processes start at once, before any thread."""
    if workers < 2:
        return map(pack_tar, plans, repeat(folder), repeat(options))
    pool = ProcessPoolExecutor(workers, get_context("fork"), end_with,
                               (os.getpid(), signal.SIG_DFL))  # at Ctrl-C without a word
    stack.callback(pool.shutdown, cancel_futures=True)
    futures = [pool.submit(pack_tar, plan, folder, options) for plan in plans]

    def results() -> Iterator[None]:
        try:
            yield from (future.result() for future in futures)
        except BrokenProcessPool:
            raise UserError(f"packing {folder}: a worker was killed (out of memory?): run it again with fewer "
                            "--workers; what is packed stays") from None

    return results()


def _join(videos: list[RawVideo], plans: list[TarPlan], seen: Seen, folder: Path) -> ShardIndex:
    """Write columns, contact sheet and index of a packed split; the index, last, puts it in force."""
    names = [name for video in videos for name in video.frame_names] + [video.name for video in videos]
    ends = np.cumsum([len(name.encode()) for name in names], dtype=np.uint64)
    modalities = [*videos[0].files]
    films = [modality for modality in modalities if any(is_film(video.files[modality][0]) for video in videos)]
    counts = Counts(len(modalities), len(names) - len(videos), len(videos), int(ends[-1]), len(films))
    sizes = [seen.sizes[str(number)][1] for number in range(len(videos))]
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{json.dumps([seen.input_kind, sizes])[:-1]}, [".encode())
    digest.update(", ".join(json.dumps(video.frame_names) for video in videos).encode() + b"], {")
    partial = folder / f"columns{PARTIAL}"
    columns, pages = new_columns(partial, counts)
    columns.ends[:], columns.text[:] = ends, np.frombuffer("".join(names).encode(), np.uint8)
    columns.videos["end"] = np.cumsum([video.n_frames for video in videos])
    columns.videos["width"], columns.videos["height"] = np.transpose(sizes)
    shards, first = [], 0
    for plan in plans:
        record = load_record(plan, folder)
        assert record is not None
        columns.entries[:, first : first + plan.n_frames] = record.entries
        of_films = columns.films[:, first : first + plan.n_frames]
        of_films["start"] = PICTURE
        if record.films is not None:
            of_films[:] = record.films[[modalities.index(modality) for modality in films]]
        columns.entries["shard"][:, first : first + plan.n_frames] = plan.number
        members = ", ".join(_hashed_members(plan, modalities, record))
        digest.update(f"{', ' if first else ''}{members}".encode())
        shards.append((record.tar, record.size, record.hash))
        first += plan.n_frames
    digest.update(b"}]")
    pages.flush()
    name = columns_name(partial)
    partial.rename(folder / name)
    new = folder / f"{INDEX}{PARTIAL}"
    with written(new) as file:
        file.write(json.dumps({
            "format": FORMAT, "version": VERSION if films else 2, "hash": digest.hexdigest(),
            "source": _source(plans), "films": films,
            "input_kind": seen.input_kind, "notes": seen.notes, "largest_label": seen.largest_label,
            "largest_label_at": seen.largest_label_at, "modalities": modalities, "columns": name,
            "counts": {"frames": counts.frames, "videos": counts.videos, "n_text": counts.n_text}, "shards": shards,
        }).encode())
    sheet = folder / f"{CONTACT_SHEET}{PARTIAL}"
    # Packed lightly: nobody helps with it, and small sets are many.
    contact_sheet(ShardIndex(folder, file=new.name)).save(sheet, "PNG", compress_level=1)
    sheet.rename(folder / CONTACT_SHEET)
    new.rename(folder / INDEX)
    return ShardIndex(folder)


def _hashed_members(plan: TarPlan, modalities: list[str], record: Record) -> Iterator[str]:
    """`"name": "hash"` of each member of a tar, as JSON, in the order of frames and modalities."""
    keys = [span.key(i) for span in plan.spans for i in range(span.n_frames)]
    hashes, suffixes = record.entries["hash"].T.tolist(), record.suffixes.T.tolist()
    for key, frame_hashes, frame_suffixes in zip(keys, hashes, suffixes, strict=True):
        for modality, number, suffix in zip(modalities, frame_hashes, frame_suffixes, strict=True):
            yield f'"{key}.{modality}{suffix}": "{number:016x}"'


def _clear(folder: Path, plans: list[TarPlan]) -> None:
    """Remove what the set in force does not need: of earlier sets, and of runs that were killed."""
    raw = json.loads((folder / INDEX).read_bytes())
    needed = {raw["columns"], *(shard[0] for shard in raw["shards"]), *(plan.record for plan in plans)}
    for pattern in ("shard-*.tar", "columns-*.bin", f"*{PARTIAL}", f"{RECORDS}/*"):
        for path in folder.glob(pattern):
            if path.relative_to(folder).as_posix() not in needed:
                path.unlink()
