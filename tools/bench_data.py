"""Measure how fast one core decodes and draws frames, and what planned steps of the recipes ask for beside it.

    python -m tools.bench_data FRAMES                  print the tables; FRAMES: raw street folders, as Cityscapes'
    python -m tools.bench_data FRAMES docs/shards.md   put them between the marks in a file; takes some minutes

Seconds are of processor time, so a busy machine counts for little.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from tools.bench_drawing import SETTINGS, pack_toys, rate
from tools.recipe_table import TABLE, Chosen, chosen, put_between
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.decoding import Decoders
from vid2vid_dist.data.images import read_ids, read_rgb
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.engine.plan.schedule import needed_frames
from vid2vid_dist.engine.plan.tasks import FAR, LaneChunk, NeededFrames
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.temporal import frames_kept
from vid2vid_dist.monitor.video import VideoWriter

BEGIN, END = "<!-- data: make bench-data DOC=docs/shards.md -->", "<!-- /data -->"
WIDTHS = 512, 1024, 2048
KINDS = "PNG", "JPEG", "mp4"
N_FRAMES, REPEATS = 12, 3
WAITED = "street/512.yaml", "street/1024.yaml", "street/2048.yaml"
"""Recipes whose loader is run, with the planner's step as its consumer."""
N_STEPS = 40


@dataclass(frozen=True)
class Seconds:
    """Of one core for one frame: of its picture, of its labels and instances."""

    picture: float
    inputs: float


def make_set(frames: Path, out: Path, width: int, kind: str) -> DataConfig:
    """Shards of one video of `width` pixels, whose pictures are stored as `kind`."""
    with tempfile.TemporaryDirectory() as raw:
        pictures = []
        for modality in ("A", "B", "inst"):
            files = sorted((frames / f"train_{modality}").glob("*/*"))[:N_FRAMES]
            if len(files) < N_FRAMES:
                raise UserError(f"{frames}/train_{modality} has {len(files)} frames, {N_FRAMES} are needed: "
                                "make bench-data FRAMES=folder")
            folder = Path(raw) / f"train_{modality}/video"
            folder.mkdir(parents=True)
            for i, file in enumerate(files):
                read = read_rgb if modality == "B" else read_ids
                image = read(file.read_bytes(), str(file))
                size = width, width * image.height // image.width
                if modality == "B":
                    image = image.resize(size, Image.Resampling.BICUBIC)
                    pictures.append(image)
                    image.save(folder / f"{i}.{'jpg' if kind == 'JPEG' else 'png'}", quality=95)
                else:
                    image.resize(size, Image.Resampling.NEAREST).save(folder / f"{i}.png")
        if kind == "mp4":
            for file in (folder := Path(raw) / "train_B/video").iterdir():
                file.unlink()
            folder.rmdir()
            with VideoWriter(folder.with_suffix(".mp4"), fps=17) as film:
                for picture in pictures:
                    film.write(np.asarray(picture))
        make_shards(Path(raw), out, PackOptions())
    return DataConfig(shards=str(out), label_nc=35, use_instance=True, loadSize=width)


def measured(data: DataConfig) -> Seconds:
    """Of a clip from its first frame on."""
    numbers = range(N_FRAMES)

    def per_frame(request: Request) -> float:
        seconds = []
        for _ in range(REPEATS):
            source = ClipSource(data, n_frames_G=3, seed=0)  # whose video decoder begins anew
            began = time.process_time()
            source.load(request)
            seconds.append(time.process_time() - began)
        return min(seconds) / N_FRAMES

    clip = ClipSource(data, n_frames_G=3, seed=0).whole(0)
    return Seconds(per_frame(Request(clip, (), numbers)), per_frame(Request(clip, numbers, ())))


@dataclass(frozen=True)
class Demand:
    """What a step in the middle of long clips asks of the rank that decodes most: new frames, of all its clips, and
    the planner's seconds of the step."""

    pictures: int
    inputs: int
    period: float


def demand(found: Chosen) -> Demand:
    plan, n, cfg = found.choice.plan, found.request.n_frames, found.specs.cfg
    n_past, n_kept = cfg.generator.n_frames_G - 1, frames_kept(cfg.discriminator, FAR)
    first = FAR - n * (n_kept // n + 2)  # a rank keeps what later steps look back at
    counts = []
    for slot in range(plan.layout.n_slots):
        pictures = inputs = 0
        for lane in range(found.choice.lanes):
            has = new = NeededFrames()
            for seen in range(first, FAR + 1, n):
                wanted = needed_frames(found.specs, plan, slot, lane, LaneChunk(seen, n))
                new, has = wanted - has, (has | wanted).kept(seen + n, n_past, n_kept)
            pictures, inputs = pictures + len(new.real), inputs + len(new.labels)
        counts.append((pictures + inputs, pictures, inputs))
    _, pictures, inputs = max(counts)
    batch = cfg.parallel.batch_size
    return Demand(batch * pictures, batch * inputs, found.choice.prediction.period)


def waited(data: DataConfig, of_step: Demand) -> float:
    """Part of a rank's time that it waits for its loader, whose workers share this machine, at the planner's step."""
    source = ClipSource(data, n_frames_G=3, seed=0)
    clip = source.whole(0)

    def requests() -> Iterator[Request]:
        for step in range(N_STEPS):
            yield Request(clip, _some(step, of_step.inputs), _some(step, of_step.pictures))

    waits = []
    frames = Decoders(source, data.workers, source.task.in_python).stream(requests())
    for _ in range(N_STEPS):
        began = time.perf_counter()
        next(frames)
        waits.append(time.perf_counter() - began)
        time.sleep(of_step.period)
    waits = waits[len(waits) // 4 :]  # the first ones fill what is decoded ahead
    return sum(waits) / (sum(waits) + len(waits) * of_step.period)


def _some(step: int, count: int) -> list[int]:
    return [(step * count + i) % N_FRAMES for i in range(count)]


def tables(frames: Path, folder: Path) -> Iterator[str]:
    seconds: dict[tuple[int, str], Seconds] = {}
    sets = {(width, kind): make_set(frames, folder / f"{width}_{kind}", width, kind) for width in WIDTHS
            for kind in KINDS}
    yield "| Frames/s of one core | " + " | ".join(map(str, WIDTHS)) + " |"
    yield "|---" * (1 + len(WIDTHS)) + "|"
    for kind in KINDS:
        seconds |= {(width, kind): measured(sets[width, kind]) for width in WIDTHS}
        found = [seconds[width, kind] for width in WIDTHS]
        yield f"| {kind}: picture, labels, instances | " + _cells(1 / (one.picture + one.inputs) for one in found)
        yield f"| {kind}: picture alone | " + _cells(1 / one.picture for one in found)
    drawn = {}
    pack_toys(folder)
    for name, data in SETTINGS.items():
        drawn[name] = rate(replace(data, shards=str(folder / data.task)))
        yield f"| drawing: {name} | {drawn[name]:.3g} | | |"
    yield ""
    head = "Recipe", "ms per step", "Pictures, inputs per step", "Frames/s", *(f"Cores, {kind}" for kind in KINDS)
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    shares = []
    for recipe in TABLE:
        if "modern" in recipe.file:  # the same frames, in plans that are searched for long
            continue
        found_plan = chosen(recipe)
        asked = demand(found_plan)
        cores = [_cores(found_plan, asked, seconds, kind, drawn) for kind in KINDS]
        yield (f"| `{recipe.file}` | {1e3 * asked.period:.0f} | {asked.pictures}, {asked.inputs} | "
               f"{max(asked.pictures, asked.inputs) / asked.period:.3g} | " + _cells(cores))
        if recipe.file in WAITED:
            width = found_plan.size.width
            shares += [f"{100 * waited(sets[width, kind], asked):.1f} % ({recipe.file}, {kind})" for kind in KINDS]
    yield ""
    yield (f"Waiting for two loading threads, of a step as long as planned, on {os.cpu_count()} cores at a load of "
           f"{os.getloadavg()[0]:.0f}: {', '.join(shares)}.")


def _cores(found: Chosen, asked: Demand, seconds: dict[tuple[int, str], Seconds], kind: str,
           drawn: dict[str, float]) -> float:
    """That are busy with decoding for this rank; from the measured width that is nearest, by pixels. A drawing takes as
    long as that of its task that is measured first."""
    width, task = found.size.width, found.specs.cfg.data.task
    near = min(WIDTHS, key=lambda one: abs(one - width))
    one, scale = seconds[near, kind], found.size.width * found.size.height / (near * near / 2)
    name = next((name for name in SETTINGS if name.startswith(task)), None)
    inputs = scale * one.inputs if name is None else 1 / drawn[name]
    return (asked.pictures * scale * one.picture + asked.inputs * inputs) / asked.period


def _cells(values: Iterator[float] | list[float]) -> str:
    return " | ".join(f"{value:.3g}" for value in values) + " |"


def main() -> None:
    if len(sys.argv) < 2:
        raise UserError("name raw street folders: make bench-data FRAMES=folder")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for line in tables(Path(sys.argv[1]), Path(folder)):
            print(line, flush=True)
            lines.append(line)
    if len(sys.argv) > 2:
        put_between(Path(sys.argv[2]), BEGIN, END, "\n".join(lines))


if __name__ == "__main__":
    run_main(main)
