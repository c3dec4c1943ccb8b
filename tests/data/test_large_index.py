"""An index of a million frames: its start and its memory, in several processes at once."""

import json
import multiprocessing
import re
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import ClipSource
from vid2vid_dist.data.columns import Counts, new_columns
from vid2vid_dist.data.index import FORMAT, VERSION

N_FRAMES, N_VIDEOS, N_RANKS, N_TARS = 1_000_000, 20_000, 8, 1000
MODALITIES = ["labels", "images"]
TAR_BYTES = 2**30


def rank(shards: str, number: int, all_there: Barrier, figures: Queue) -> None:
    """Opens the set, looks at some of it, and says what that took: seconds, of CPU, bytes shared out, mapped."""
    before, began, cpu = resident(), time.perf_counter(), time.process_time()
    source = ClipSource(DataConfig(shards=shards), 3, 0, check_tars=number == 0)
    source.identity()  # as training asks for
    seconds = time.perf_counter() - began, time.process_time() - cpu
    for video in range(0, source.n_clips, 100):
        source.index.entry(video, "images", video % 50)
        assert source.index.videos[video].frames[video % 50] == f"frame{video % 50:06d}"
    all_there.wait()
    figures.put([*seconds, *(now - then for now, then in zip(resident(), before, strict=True))])
    all_there.wait()


def resident() -> list[int]:
    """Bytes of this process's share of memory, and of all that it has mapped."""
    said = Path("/proc/self/smaps_rollup").read_text()
    return [1024 * int(re.search(rf"^{what}: +(\d+) kB", said, re.M)[1]) for what in ("Pss", "Rss")]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A set whose tars are holes."""
    folder = tmp_path / "train"
    folder.mkdir()
    names = [f"frame{i % 50:06d}" for i in range(N_FRAMES)] + [f"video{i:05d}" for i in range(N_VIDEOS)]
    ends = np.cumsum([len(name) for name in names])
    counts = Counts(len(MODALITIES), N_FRAMES, N_VIDEOS, int(ends[-1]))
    columns, pages = new_columns(folder / "columns-0.bin", counts)
    columns.entries["offset"], columns.entries["size"] = 512, 1000
    columns.entries["shard"] = np.arange(N_FRAMES) * N_TARS // N_FRAMES
    columns.videos["end"] = np.arange(1, N_VIDEOS + 1) * (N_FRAMES // N_VIDEOS)
    columns.videos["width"], columns.videos["height"] = 2048, 1024
    columns.ends[:], columns.text[:] = ends, np.frombuffer("".join(names).encode(), np.uint8)
    pages.flush()
    tars = [(f"shard-{i:06d}-0.tar", TAR_BYTES, "0") for i in range(N_TARS)]
    for name, size, _ in tars:
        with (folder / name).open("wb") as tar:
            tar.truncate(size)
    (folder / "index.json").write_text(json.dumps({
        "format": FORMAT, "version": VERSION, "hash": "0", "input_kind": "ids", "largest_label": 3,
        "largest_label_at": "x", "modalities": MODALITIES, "columns": "columns-0.bin", "shards": tars,
        "counts": {"frames": N_FRAMES, "videos": N_VIDEOS, "n_text": counts.n_text}}))
    return tmp_path


@pytest.mark.long
def test_a_million_frames_start_at_once_and_are_held_once_for_all_ranks(shards: Path) -> None:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["vid2vid_dist.data.clips"])
    all_there, queue = server.Barrier(N_RANKS), server.Queue()
    ranks = [server.Process(target=rank, args=(str(shards), i, all_there, queue)) for i in range(N_RANKS)]
    for process in ranks:
        process.start()
    figures = [queue.get(timeout=250) for _ in ranks]
    for process in ranks:
        process.join()
    wall, cpu, pss, rss = np.array(figures).T
    n_entries = N_FRAMES * len(MODALITIES)
    print(f"start-up {wall.max():.2f} s, {cpu.max():.2f} s of CPU; per entry and rank {max(pss) / n_entries:.1f} bytes "
          f"shared out, {max(rss) / n_entries:.1f} mapped")
    assert cpu.max() < 2
    assert max(pss) < 30 * n_entries
    assert max(rss) < 40 * n_entries
