"""Figures of a model: its videos made frame by frame from its own frames, and what becomes of them over time."""

import logging
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from html import escape
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from vid2vid_dist.data.atomic import locked
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.images import to_float
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.evaluation_page import write_report
from vid2vid_dist.inference.figures import Evaluation
from vid2vid_dist.inference.first_frames import choose_first_frames
from vid2vid_dist.inference.generate import GenerationOptions, Job, plan_jobs
from vid2vid_dist.inference.input_videos import open_input
from vid2vid_dist.inference.load import LoadedGenerator
from vid2vid_dist.inference.panels import Look
from vid2vid_dist.inference.products import CompareVideo, captions, closed
from vid2vid_dist.inference.quality import Judges, frame_figures, set_qualities, size_of
from vid2vid_dist.inference.runtime import choose_device, choose_dtype, counted
from vid2vid_dist.inference.styles import StyleBook, book_of, classes_of, look_of
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.models.encoder import FeatureEncoder
from vid2vid_dist.models.flow import ReferenceFlow, build_flow
from vid2vid_dist.models.warp_error import FIGURES, WarpErrorMeter
from vid2vid_dist.monitor.html import mosaic
from vid2vid_dist.monitor.svg_curves import number

log = logging.getLogger(__name__)


class Evaluator:
    """Compares videos, frame by frame, with the real ones where there are such."""

    def __init__(self, judges: Judges, flow: ReferenceFlow, name: str = "") -> None:
        self._judges, self._sets, self._flow = judges, set_qualities(judges), flow
        self.evaluation = Evaluation(name=name)

    def begin_video(self, name: str) -> None:
        self._figures = self.evaluation.frames[name] = {}
        self._n_frames = 0
        self._meter = WarpErrorMeter(self._flow)
        for quality in self._sets:
            quality.begin_video()

    def add(self, fake: Tensor, real: Tensor | None, labels: Tensor) -> None:
        """Add the next frame, both (1, 3, H, W) in [-1, 1]; labels (1, 1, H, W), as decoded."""
        figures = {} if real is None else frame_figures(self._judges, fake, real)
        error = self._meter.step(fake, real)
        if error is not None:
            figures |= dict(zip(FIGURES, error.mean.tolist(), strict=False))
        for name, value in figures.items():
            known = self._figures.setdefault(name, [])
            known += [float("nan")] * (self._n_frames - len(known)) + [value]  # the first frame has no warp error
        for quality in self._sets:
            quality.add(fake, real, labels)
        self._n_frames += 1
        self.evaluation.size = size_of(fake)

    def finish(self) -> Evaluation:
        for quality in self._sets:
            self.evaluation.sets.update(quality.figures())
        return self.evaluation


class Contestant:
    """A model that makes videos and is judged by them."""

    def __init__(self, name: str, loaded: LoadedGenerator, options: GenerationOptions, work: Path,
                 evaluator: Evaluator) -> None:
        cfg, device = loaded.config, choose_device(options.device)
        self.name, self._evaluator, self._seconds = name, evaluator, 0.0
        self._source = open_input(options.input, cfg, options.split, work)
        self.where, self.has_images = self._source.where, self._source.has_images
        self._first = choose_first_frames(options.first, cfg, self.has_images, self.where, device)
        self.first_frames = self._first.description
        self.checkpoint = loaded.checkpoint.name + (", averaged weights" if loaded.averaged else "")
        self.jobs = plan_jobs(self._source, options, cfg.generator.n_frames_G - 1, [Look()], "")
        self._encoder, self._book = deepcopy(loaded.generator.netE), book_of(loaded)
        self._generator = VideoGenerator(loaded.generator, cfg, device, choose_dtype(options.precision, cfg, device),
                                         compiled=options.compiled)

    @property
    def shapes(self) -> list[tuple[str, int, tuple[int, int]]]:
        """Name, number of frames and size of every video."""
        return [(job.result.name, job.n_frames, self._source.videos[job.number].size) for job in self.jobs]

    def make(self, job: Job) -> Iterator[tuple[Frames, Tensor]]:
        """The frames of a video, as they are read and as they are made, (1, 3, H, W) in [-1, 1]."""
        self._evaluator.begin_video(job.result.name)
        frames = self._source.read(job.number, job.spans)
        given = next(frames)
        encoder, book = self._encoder, self._book
        look = None if encoder is None or book is None else _own_look(encoder, given, book)[None]
        first = None if self._first.images is None else self._first.images(given, None)[None]
        self._generator.start([given], first, look)
        for frame in frames:
            started = time.perf_counter()
            fake = self._generator.step([frame]).fake[0].float().cpu()
            self._seconds += time.perf_counter() - started
            self._evaluator.add(fake, None if frame.images is None else to_float(frame.images, torch.float32),
                                frame.labels)
            yield frame, fake
        log.info("%s: %d frames", job.result.name, job.n_frames)

    def finish(self) -> Evaluation:
        evaluation = self._evaluator.finish()
        evaluation.rate = sum(job.n_frames for job in self.jobs) / self._seconds
        return evaluation


def evaluate(runs: Sequence[LoadedGenerator], options: GenerationOptions, judges: Judges, out: Path
             ) -> list[Evaluation]:
    """Generate the wanted videos, each frame from those generated before it, evaluate them, and report into `out`.

    Of two runs the second makes the same frames, from the first one's shards where no input is given, and videos show
    both side by side. A model with styles gives each video the look of its own first frames. Raises `UserError` as
    `generate` does, and for two runs that do not make the same frames.
    """
    with locked(out):
        out.mkdir(exist_ok=True)  # before the work: whether it can be
        return _evaluate(runs, options, judges, out)


def _evaluate(runs: Sequence[LoadedGenerator], options: GenerationOptions, judges: Judges, out: Path
              ) -> list[Evaluation]:
    cfg, contestants = runs[0].config, _contestants(runs, options, judges, out)
    one = contestants[0]
    n_frames, shown = sum(job.n_frames for job in one.jobs), []
    looks = [Look(each.name) for each in contestants]
    with counted("evaluating", n_frames) as advance:
        for jobs in zip(*(each.jobs for each in contestants), strict=True):
            name, folder = jobs[0].result.name, jobs[0].result.folder
            frames = zip(*(each.make(job) for each, job in zip(contestants, jobs, strict=True)), strict=True)
            if len(runs) == 1:
                for _ in frames:
                    advance()
                continue
            (out / folder).mkdir(parents=True, exist_ok=True)
            video = CompareVideo(out / folder, options.fps, jobs[0].n_frames // 2, looks, cfg.data)
            with closed(video):
                for made in frames:
                    video.add("", made[0][0], torch.cat([fake for _, fake in made]))
                    advance()
            shown.append(f"<h2>{escape(name)}</h2>" + mosaic(
                f"{folder}/poster.png", f"{folder}/compare.mp4", captions(looks, one.has_images), autoplay=False,
                controls=True))
    found = [each.finish() for each in contestants]
    write_report(found, out, " against ".join(each.name for each in contestants) + f": {one.where}", {
        "checkpoint": ", ".join(each.checkpoint for each in contestants), "videos": str(len(one.jobs)),
        "frames": str(n_frames), "size": found[0].size, "frames/s": ", ".join(number(each.rate) for each in found),
        "first frames": one.first_frames, "reference flow": cfg.flow.network}, shown)
    return found


def _contestants(runs: Sequence[LoadedGenerator], options: GenerationOptions, judges: Judges, out: Path
                 ) -> list[Contestant]:
    """Of each run one; all of them begin with the frame that the one with the longest memory can begin with."""
    flow, shards = build_flow(runs[0].config.flow), runs[0].config.data.shards
    n_past = [run.config.generator.n_frames_G - 1 for run in runs]
    found: list[Contestant] = []
    for i, run in enumerate(runs):
        name = run.config.run.name if not i or run.config.run.name != found[0].name else f"{run.config.run.name} (2)"
        config = replace(run.config, data=replace(run.config.data, shards=shards))
        found.append(Contestant(
            name, replace(run, config=config),
            replace(options, start_frame=options.start_frame + max(n_past) - n_past[i]), out / f".input{i or ''}",
            Evaluator(judges, flow, name)))
        for its, first in zip_longest(found[i].shapes, found[0].shapes):
            if its != first:
                raise UserError(f"{name} and {found[0].name} make other videos, or frames of another size "
                                f"({its} and {first}): compare runs of one data.loadSize")
    return found


def _own_look(encoder: FeatureEncoder, given: Frames, book: StyleBook) -> Tensor:
    """Of a model with styles the look of the video itself, as its first frames show it; without such the first one."""
    if given.images is None:
        return book.vectors[0]
    return look_of(encoder, to_float(given.images[-1], torch.float32), classes_of(given)[-1], book)
