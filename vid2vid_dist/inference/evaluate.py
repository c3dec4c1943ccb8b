"""Figures of a model: its videos made frame by frame from its own frames, and what becomes of them over time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vid2vid_dist.data.atomic import locked
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.images import to_float
from vid2vid_dist.inference.first_frames import choose_first_frames
from vid2vid_dist.inference.generate import GenerationOptions, plan_jobs
from vid2vid_dist.inference.input_videos import open_input
from vid2vid_dist.inference.load import LoadedGenerator
from vid2vid_dist.inference.panels import Look
from vid2vid_dist.inference.quality import FrameQuality, SetQuality, WeightFiles
from vid2vid_dist.inference.runtime import choose_device, choose_dtype, counted
from vid2vid_dist.inference.styles import StyleBook, book_of, classes_of, look_of
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.models.encoder import FeatureEncoder
from vid2vid_dist.models.flow import ReferenceFlow, build_flow
from vid2vid_dist.models.warp_error import WarpErrorMeter
from vid2vid_dist.monitor.html import facts, table, write_page
from vid2vid_dist.monitor.svg_curves import curve, number
from vid2vid_dist.monitor.tensorboard import TensorBoardLog

log = logging.getLogger(__name__)

BETTER = {"L1": "low", "PSNR": "high", "SSIM": "high", "LPIPS": "low", "warp error": "low"}


@dataclass
class Evaluation:
    """Figures by name: `frames[video][name]` by frame, NaN where there is none; `sets` over everything."""

    frames: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    sets: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for figures in self.frames.values() for name in figures))

    def by_frame(self, name: str) -> np.ndarray:
        """The mean over the videos of each frame index; shorter videos take part as far as they go."""
        rows = [figures.get(name, []) for figures in self.frames.values()]
        padded = np.full((len(rows), max(map(len, rows))), np.nan)
        for padded_row, row in zip(padded, rows, strict=True):
            padded_row[: len(row)] = row
        there = np.isfinite(padded)
        return np.where(there, padded, 0).sum(0) / np.where(there.any(0), there.sum(0), np.nan)

    def mean(self, name: str) -> float:
        """The mean over all frames of all videos, NaN where no frame has the figure."""
        values = np.concatenate([figures.get(name, []) for figures in self.frames.values()])
        return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

    def drift(self, name: str) -> float:
        """Change per 100 frames, of the straight line through the means by frame."""
        values = self.by_frame(name)
        index = np.flatnonzero(np.isfinite(values))
        return float(100 * np.polyfit(index, values[index], 1)[0]) if len(index) > 1 else 0.0

    def to_json(self) -> str:
        figures = {name: {"mean": _finite(self.mean(name)), "drift_per_100_frames": self.drift(name),
                          "by_frame": _plain(self.by_frame(name))} for name in self.names}
        videos = {video: {name: _plain(values) for name, values in of.items()} for video, of in self.frames.items()}
        sets = {name: _finite(value) for name, value in self.sets.items()}
        return json.dumps({"figures": figures, "sets": sets, "videos": videos}, indent=1, allow_nan=False)

    def rows(self) -> list[list[str]]:
        """The table: name, mean, drift, and which way is better."""
        rows = [[name, number(self.mean(name)), f"{self.drift(name):+.2g}", BETTER.get(name, "")]
                for name in self.names]
        return rows + [[name, number(value), "", "low"] for name, value in self.sets.items()]


HEADER = ("figure", "mean", "drift per 100 frames", "better")


class Evaluator:
    """Compares videos, frame by frame, with the real ones where there are such."""

    def __init__(self, files: WeightFiles, flow: ReferenceFlow) -> None:
        self._quality, self._sets, self._flow = FrameQuality(files), SetQuality(files), flow
        self.evaluation = Evaluation()

    def begin_video(self, name: str) -> None:
        self._figures = self.evaluation.frames[name] = {}
        self._n_frames = 0
        self._meters = {"warp error": WarpErrorMeter(self._flow), "warp error of the real": WarpErrorMeter(self._flow)}
        self._sets.begin_video()

    def add(self, fake: Tensor, real: Tensor | None) -> None:
        """Add the next frame, both (1, 3, H, W) in [-1, 1]."""
        figures = {} if real is None else self._quality(fake, real)
        for name, meter in self._meters.items():
            frame = fake if name == "warp error" else real
            error = None if frame is None else meter.step(frame, real)
            if error is not None:
                figures[name] = float(error.mean)
        for name, value in figures.items():
            known = self._figures.setdefault(name, [])
            known += [float("nan")] * (self._n_frames - len(known)) + [value]  # the first frame has no warp error
        if real is not None:
            self._sets.add(fake, real)
        self._n_frames += 1

    def finish(self) -> Evaluation:
        self.evaluation.sets = self._sets.figures()
        return self.evaluation


def evaluate(loaded: LoadedGenerator, options: GenerationOptions, files: WeightFiles, out: Path) -> Evaluation:
    """Generate the wanted videos, each frame from those generated before it, evaluate them, and report into `out`.

    A model with styles gives each video the look of its own first frames. Raises `UserError` as `generate` does, and
    for weights files that are missing or of another network.
    """
    with locked(out):
        out.mkdir(exist_ok=True)  # before the work: whether it can be
        return _evaluate(loaded, options, files, out)


def _evaluate(loaded: LoadedGenerator, options: GenerationOptions, files: WeightFiles, out: Path) -> Evaluation:
    cfg = loaded.config
    device = choose_device(options.device)
    dtype = choose_dtype(options.precision, cfg, device)
    evaluator = Evaluator(files, build_flow(cfg.flow))
    source = open_input(options.input, cfg, options.split, out / ".input")
    first_frames = choose_first_frames(options.first, cfg, source.has_images, source.where, device)
    jobs = plan_jobs(source, options, cfg.generator.n_frames_G - 1, [Look()], "")
    encoder, book = deepcopy(loaded.generator.netE), book_of(loaded)
    generator, seconds = VideoGenerator(loaded.generator, cfg, device, dtype, compiled=options.compiled), 0.0
    n_frames = sum(job.n_frames for job in jobs)
    with counted("evaluating", n_frames) as advance:
        for job in jobs:
            evaluator.begin_video(job.result.name)
            frames = source.read(job.number, job.spans)
            given = next(frames)
            look = None if book is None or encoder is None else _own_look(encoder, given, book)[None]
            first = None if first_frames.images is None else first_frames.images(given, None)[None]
            generator.start([given], first, look)
            for frame in frames:
                started = time.perf_counter()
                fake = generator.step([frame]).fake[0].float().cpu()
                seconds += time.perf_counter() - started
                evaluator.add(fake, None if frame.images is None else to_float(frame.images, torch.float32))
                advance()
            log.info("%s: %d frames", job.result.name, job.n_frames)
    evaluation = evaluator.finish()
    report(evaluation, out, f"{cfg.run.name}: {source.where}", {
        "checkpoint": loaded.checkpoint.name + (", averaged weights" if loaded.averaged else ""),
        "videos": str(len(jobs)), "frames": str(n_frames), "frames/s": number(n_frames / seconds),
        "first frames": first_frames.description, "reference flow": cfg.flow.network})
    return evaluation


def _own_look(encoder: FeatureEncoder, given: Frames, book: StyleBook) -> Tensor:
    """Of a model with styles the look of the video itself, as its first frames show it; without such the first one."""
    if given.images is None:
        return book.vectors[0]
    return look_of(encoder, to_float(given.images[-1], torch.float32), classes_of(given)[-1], book)


def report(evaluation: Evaluation, out: Path, title: str, about: dict[str, str]) -> None:
    """Write `evaluation.json`, a page with the table and the curves over frames, and TensorBoard events."""
    (out / "evaluation.json").write_text(evaluation.to_json())
    board = TensorBoardLog(out)
    cards = []
    for name in evaluation.names:
        values = evaluation.by_frame(name)
        cards.append(curve(f"{name} over frames", range(len(values)), values.tolist(), unit="frame"))
        for index in np.flatnonzero(np.isfinite(values)):
            board.scalars(int(index), {f"by_frame/{name}": float(values[index])})
    board.close()
    body = [f"<h1>{escape(title)}</h1>", facts(about), table(HEADER, evaluation.rows()),
            "<h2>Over the frames of a video</h2>", f'<div class="grid">{"".join(cards)}</div>']
    write_page(out / "index.html", title, "\n".join(body))


def lines(evaluation: Evaluation) -> Iterator[str]:
    """The table as text."""
    rows = [list(HEADER), *evaluation.rows()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _plain(values: np.ndarray | list[float]) -> list[float | None]:
    return list(map(_finite, values))


def _finite(value: float) -> float | None:
    """As JSON knows numbers."""
    return float(value) if np.isfinite(value) else None
