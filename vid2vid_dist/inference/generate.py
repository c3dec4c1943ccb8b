"""From a trained generator and an input to videos on the disk."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.atomic import locked
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.run.grid import Grid, solo_grid
from vid2vid_dist.engine.run.streams import ToHost
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.edits import NO_EDIT, LabelEdit
from vid2vid_dist.inference.first_frames import FirstFrames, choose_first_frames
from vid2vid_dist.inference.input_videos import Input, Video, open_input
from vid2vid_dist.inference.load import LoadedGenerator
from vid2vid_dist.inference.panels import Look, make_looks
from vid2vid_dist.inference.results import Results, VideoResult, folder_names
from vid2vid_dist.inference.runtime import choose_device, choose_dtype, counted, peak_memory
from vid2vid_dist.inference.styles import NO_STYLE, StyleOptions, choose_styles
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.inference.writers import Writers, n_writers
from vid2vid_dist.monitor.svg_curves import number

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GenerationOptions:
    """What is to be generated."""

    input: Path | None = None  # shards, folder or mp4; None = the shards that were trained on
    split: str = "test"
    videos: tuple[str, ...] = ()  # names; empty = all
    start_frame: int = 0  # of each video
    how_many: int = 0  # generated frames per video; 0 = to its end
    first: str = "auto"  # what a video starts from: see `first_frames.choose_first_frames`
    edit: LabelEdit = NO_EDIT  # gives each output another one
    style: StyleOptions = NO_STYLE  # gives each video an output for every look
    fps: int = 15
    device: str = "auto"  # auto, cpu or cuda
    precision: str = "auto"  # auto, fp32 or bf16: see `runtime.choose_dtype`
    batch: int = 1  # videos side by side
    compiled: bool = False
    again: bool = False  # also what is complete
    writers: int | None = None  # processes that write, 0 = a thread, None = as `n_writers` says


@dataclass(frozen=True)
class Outcome:
    """What came of it, all ranks together."""

    page: Path
    frames: int  # generated now
    kept: int  # videos that were complete and are not made again
    seconds: float  # in the generator of the slowest rank, copies to and from the device included
    peak_memory: float  # GiB: of the fullest GPU, or of the largest process on CPUs


@dataclass
class Job:
    """One video to be made: what to read of video `number`, first the frames that it starts from."""

    number: int
    spans: list[range]
    result: VideoResult

    @property
    def n_frames(self) -> int:
        """Frames to generate."""
        return len(self.spans) - 1


def generate(loaded: LoadedGenerator, options: GenerationOptions, out: Path, grid: Grid | None = None) -> Outcome:
    """Generate the videos of an input, `options.batch` at a time and dealt over the ranks, and the page that shows
    them.

    Each video gives its frames from the n_frames_G-th on; the ones before are what it starts from. A video that is
    complete and was made from the same is kept. `grid`: the ranks that share the work, None = this process alone.
    Raises `UserError` for a video that does not exist or is too short, missing real frames or a missing GPU.
    """
    grid = grid or solo_grid(choose_device(options.device))
    with ExitStack() as stack:
        grid.on_first(lambda: stack.enter_context(locked(out)))
        return _generate(loaded, options, out, grid, stack)


def _generate(loaded: LoadedGenerator, options: GenerationOptions, out: Path, grid: Grid, stack: ExitStack) -> Outcome:
    cfg, device = loaded.config, grid.device
    options.edit.check(cfg.data)
    dtype = choose_dtype(options.precision, cfg, device)
    source = open_input(options.input, cfg, options.split, out / ".input")
    first_frames = choose_first_frames(options.first, cfg, source.has_images, source.where, device)
    # A video generator that knows one look leaves the choice to the network of its first frames.
    styled = loaded if loaded.generator.netE is not None or options.style == NO_STYLE else first_frames.styled or loaded
    looks = make_looks(choose_styles(options.style, styled), options.edit)
    made_from = _fingerprint(loaded, options, source, first_frames, dtype, looks)
    jobs = plan_jobs(source, options, cfg.generator.n_frames_G - 1, looks, made_from)
    mine = jobs[grid.rank :: grid.world_size]
    writers = stack.enter_context(Writers(n_writers(device) if options.writers is None else options.writers))
    results = Results(out, f"{cfg.run.name}: {source.where}", options.fps, writers)
    for job in mine:  # a folder of another rank may be on its way out just now
        results.require_ours(job.result)
    todo = [job for job in mine if options.again or not _take_up(results, job)]
    others = sum((out / job.result.folder).exists() for job in todo)
    if others and not options.again:
        log.warning("%d of the videos in %s were made with other options and are replaced: --out DIR would keep them",
                    others, out)
    generator = VideoGenerator(loaded.generator, cfg, device, dtype, compiled=options.compiled)
    maker = Maker(source, first_frames, looks, generator, results, cfg.data)
    # Of several ranks the first shows how far it is itself.
    with counted("generating", sum(job.n_frames for job in todo), grid.is_first) as advance:
        for batch in _batches(todo, source.videos, options.batch):
            maker.make(batch, advance)
    n_frames = sum(job.result.frames for job in todo)
    part = (mine, Outcome(out / "index.html", n_frames, len(mine) - len(todo), maker.seconds, peak_memory(device)))
    parts = grid.gather(part)
    outcome = _together([outcome for _, outcome in parts])
    if grid.is_first:
        videos = sorted((job for jobs, _ in parts for job in jobs), key=lambda job: job.number)
        results.write_page([job.result for job in videos], {
            "checkpoint": loaded.checkpoint.name + (", averaged weights" if loaded.averaged else ""),
            "frames": str(sum(job.result.frames for job in videos)),
            **({"frames/s": number(outcome.frames / outcome.seconds)} if outcome.frames else {}),
            "GiB at most": f"{outcome.peak_memory:.2f}",
            "first frames": first_frames.description,
            **({"edit": str(options.edit)} if options.edit else {}),
        })
    return outcome


class Made(NamedTuple):
    """The next frame of some videos of a batch: by their place in it, as read, and as made."""

    videos: list[int]
    frames: list[Frames]
    fakes: ToHost


class Maker:
    """Makes videos side by side."""

    def __init__(self, source: Input, first_frames: FirstFrames, looks: Sequence[Look], generator: VideoGenerator,
                 results: Results, data: DataConfig) -> None:
        self._source, self._first_frames, self._looks = source, first_frames, looks
        self._generator, self._results, self._data = generator, results, data
        if not find_spec("cv2"):
            log.info("no warp error without OpenCV: pip install 'vid2vid-dist[train]' brings it")
        self.seconds = 0.0  # in the generator

    def make(self, batch: Sequence[Job], advance: Callable[[], None]) -> None:
        """Make some videos of one size; a video that ends leaves the batch. `advance` is called after each frame."""
        looks, readers = self._looks, [self._source.read(job.number, job.spans) for job in batch]
        given = [look.edit.apply(frames) for frames in map(next, readers) for look in looks]
        images = self._first_frames.images
        styles = [look.style.vectors for look in looks if look.style is not None] * len(batch)
        of_video, of_first = (styles, []) if self._generator.knows_looks else ([], styles)
        first = None if images is None else torch.stack(
            [images(frames, of_first[i] if of_first else None) for i, frames in enumerate(given)])
        self._generator.start(given, first, torch.stack(of_video) if of_video else None)
        running = list(range(len(batch)))
        with ExitStack() as unfinished:
            stacks = [unfinished.enter_context(ExitStack()) for _ in batch]
            folders = [stack.enter_context(self._results.video(job.result, job.n_frames, looks, self._data,
                                                               self._source.has_images))
                       for stack, job in zip(stacks, batch, strict=True)]
            before: Made | None = None
            for number in range(1, max(job.n_frames for job in batch) + 2):
                made = None
                if running:
                    frames = [next(readers[i]) for i in running]
                    with self._timed():
                        chunk = self._generator.step([look.edit.apply(frame) for frame in frames for look in looks])
                        made = Made(running, frames, ToHost(chunk.fake[:, 0].float()))
                    still = [i for i in running if number < batch[i].n_frames]
                    if still and len(still) < len(running):
                        self._generator.keep([running.index(i) * len(looks) + j for i in still
                                              for j in range(len(looks))])
                    running = still
                if before is not None:  # written while the next ones are made
                    with self._timed():
                        fakes = before.fakes.wait().split(len(looks))
                    for i, frame, fake in zip(before.videos, before.frames, fakes, strict=True):
                        folders[i].add(frame.names[0], frame, fake)
                        advance()
                        if batch[i].result.frames == batch[i].n_frames:
                            stacks[i].close()
                            log.info("%s: %d frames", batch[i].result.name, batch[i].n_frames)
                before = made

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started


def plan_jobs(source: Input, options: GenerationOptions, n_past: int, looks: Sequence[Look],
              made_from: str) -> list[Job]:
    """What to make of the wanted videos, in the order of the input."""
    numbers = {video.name: number for number, video in enumerate(source.videos)}
    named = select_videos(options.videos, list(numbers), source.where)
    wanted = [number for name, number in numbers.items() if not options.videos or name in named]
    folders = folder_names([source.videos[number].name for number in wanted])
    jobs = []
    for index, folder in zip(wanted, folders, strict=True):
        video, first = source.videos[index], options.start_frame + n_past
        end = min(video.n_frames, first + options.how_many) if options.how_many else video.n_frames
        if first >= end:
            raise UserError(f"video {video.name} has {video.n_frames} frames: with {n_past} to start from, "
                            f"--start-frame can be at most {video.n_frames - n_past - 1}")
        spans = [range(options.start_frame, first), *(range(i, i + 1) for i in range(first, end))]
        jobs.append(Job(index, spans, VideoResult(video.name, folder, made_from, [look.name for look in looks])))
    return jobs


def select_videos(names: Sequence[str], known: Sequence[str], where: str) -> set[str]:
    """The videos that are named; a name that holds commas may come in the parts between them.

    Raises `UserError` for names that are none.
    """
    named, rest = set(), list(names)
    while rest:
        found = next((n for n in range(len(rest), 0, -1) if ",".join(rest[:n]) in known), None)
        if found is None:
            raise UserError(f"no video {rest[0]} in {where}: it has {', '.join(known)}")
        named.add(",".join(rest[:found]))
        rest = rest[found:]
    return named


def _fingerprint(loaded: LoadedGenerator, options: GenerationOptions, source: Input, first_frames: FirstFrames,
                 dtype: torch.dtype, looks: Sequence[Look]) -> str:
    """Changes when a frame might; how the work is spread over batches and ranks plays no part."""
    cfg, status = loaded.config, loaded.weights.stat()
    wanted = options.start_frame, options.how_many, options.fps, options.edit
    network = astuple(cfg.generator), astuple(replace(cfg.data, workers=0, shards="", cache="", cache_gb=0))
    told = (loaded.weights.resolve(), status.st_size, status.st_mtime_ns, network, wanted, source.identity,
            first_frames.identity, dtype, *(look.style.vectors.tolist() for look in looks if look.style is not None))
    return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()


def _take_up(results: Results, job: Job) -> bool:
    """Whether the video is complete; then the job's result is what was found."""
    kept = results.done(job.result)
    job.result = kept or job.result
    return kept is not None


def _batches(jobs: Sequence[Job], videos: Sequence[Video], size: int) -> Iterator[list[Job]]:
    """At most `size` jobs of one frame size at a time, the longest first: few leave a batch early."""
    by_size: dict[tuple[int, int], list[Job]] = {}
    for job in sorted(jobs, key=lambda job: -job.n_frames):
        by_size.setdefault(videos[job.number].size, []).append(job)
    for same in by_size.values():
        yield from (same[i : i + size] for i in range(0, len(same), size))


def _together(parts: Sequence[Outcome]) -> Outcome:
    return Outcome(parts[0].page, sum(p.frames for p in parts), sum(p.kept for p in parts),
                   max(p.seconds for p in parts), max(p.peak_memory for p in parts))
