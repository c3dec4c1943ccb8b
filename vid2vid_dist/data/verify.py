"""Whether shards on disk are what was packed: damage that keeps the size is seen by nothing else before it is read."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vid2vid_dist.data.atomic import locked
from vid2vid_dist.data.columns import columns_name
from vid2vid_dist.data.folders import SPLITS
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.packing import RECORDS
from vid2vid_dist.data.progress import progress
from vid2vid_dist.data.store import MAKE_SHARDS, Shard, file_hash
from vid2vid_dist.errors import UserError


def verify_shards(out: Path, workers: int = 1) -> list[str]:
    """Compare every tar of out/train and out/test with its size and hash in the index; returns a line per split.

    workers: files that are read at once. Raises UserError that names what is damaged; the next `make_shards` packs
    just that again.
    """
    folders = [folder for split in SPLITS if (folder := out / split).is_dir()]
    if not folders:
        raise UserError(f"no shards at {out}: give the shard folder OUT, with train/ or test/ inside")
    lines, damaged = [], []
    for folder in folders:
        with locked(folder):
            index = ShardIndex(folder, check_tars=False)
            bad = _damaged(folder, index, workers)
            for number in bad:  # without its record a tar counts as not packed
                for record in (folder / RECORDS).glob(f"{number:06d}-*"):
                    record.unlink()
        lines.append(f"{folder}: {len(index.shards)} shards are as they were packed")
        damaged += [str(folder / index.shards[number].name) for number in bad]
        damaged += [str(path) for path in [index.columns_file] if path and path.name != columns_name(path)]
    if damaged:
        raise UserError(f"{len(damaged)} damaged: {', '.join(damaged)}: run `{MAKE_SHARDS}` again, which mends these "
                        "and leaves the rest")
    return lines


def _damaged(folder: Path, index: ShardIndex, workers: int) -> list[int]:
    if not all(shard.hash for shard in index.shards):
        raise UserError(f"{index.folder} was packed by an earlier version, which kept no hashes of its tars: run "
                        f"`{MAKE_SHARDS}` again")
    with ThreadPoolExecutor(workers) as pool, progress() as bar:
        task = bar.add_task(str(folder), total=sum(shard.size for shard in index.shards) / 2**20, unit="MiB")
        bad = []
        for number, whole in enumerate(pool.map(lambda shard: _is_whole(folder, shard), index.shards)):
            bar.advance(task, index.shards[number].size / 2**20)
            bad += [] if whole else [number]
    return bad


def _is_whole(folder: Path, shard: Shard) -> bool:
    path = folder / shard.name
    return path.is_file() and path.stat().st_size == shard.size and file_hash(path) == shard.hash
