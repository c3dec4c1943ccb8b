"""From a trained generator and a split of shards to videos on the disk."""

from __future__ import annotations

import logging
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Clip, ClipSource, Frames, Request, stream, to_float
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import LoadedGenerator
from vid2vid_dist.inference.results import Results
from vid2vid_dist.inference.video import VideoGenerator
from vid2vid_dist.monitor.curves import number
from vid2vid_dist.monitor.pictures import colorize_labels, image_pictures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """What is to be generated."""

    split: str = "test"
    videos: tuple[str, ...] = ()  # names; empty = all
    start_frame: int = 0  # of each video
    how_many: int = 0  # generated frames per video; 0 = to its end
    first: str = "auto"  # real or none: what a video starts from; auto = as in training
    fps: int = 15
    device: str = "auto"  # auto, cpu or cuda


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    page: Path
    frames: int
    seconds: float  # in the generator, copies to and from the device included
    peak_memory: float  # GiB: of the GPU, or of this process on a CPU


def generate(loaded: LoadedGenerator, wish: Wish, out: Path) -> Outcome:
    """Generate the videos of a split, one after the other, and the page that shows them.

    Each video gives its frames from the n_frames_G-th on; the ones before are what it starts from.
    Raises `UserError` for a video that does not exist or is too short, missing real frames or a missing GPU.
    """
    cfg = loaded.config
    device = _device(wish.device)
    dtype = torch.bfloat16 if cfg.optim.precision == "bf16" and device.type == "cuda" else torch.float32
    source = ClipSource(cfg.data, cfg.generator.n_frames_G, cfg.run.seed, wish.split)
    from_real = _starts_from_real(cfg, source, wish.first)
    plans = [_plan(clip, cfg.generator.n_frames_G - 1, wish) for clip in _choose(source, wish.videos)]
    frames = stream(source, [request for plan in plans for request in plan], cfg.data.workers)
    generator = VideoGenerator(loaded.generator, cfg, device, dtype)
    results = Results(out, f"{cfg.run.name}: {wish.split} videos", wish.fps)
    seconds = 0.0
    for given_request, *requests in plans:
        given = next(frames)
        real = to_float(given.images, dtype) if from_real and given.images is not None else None
        generator.start(given, real)
        with results.video(given_request.clip.name, len(requests)) as video:
            for _ in requests:
                frame = next(frames)
                started = time.perf_counter()
                fake = generator.step(frame).fake[0].float().cpu()
                seconds += time.perf_counter() - started
                video.add(frame.names[0], _panels(frame, fake, cfg.data.label_nc), _l1(frame, fake))
        log.info("%s: %d frames", given_request.clip.name, len(requests))
    n_frames = sum(video.frames for video in results.videos)
    peak = _peak_memory(device)
    page = results.write_page({
        "checkpoint": loaded.checkpoint.name + (", averaged weights" if loaded.averaged else ""),
        "frames": str(n_frames),
        "frames/s": number(n_frames / seconds),
        "GiB at most": f"{peak:.2f}",
        "first frames": "real" if from_real else "from nothing",
    })
    return Outcome(page, n_frames, seconds, peak)


def _device(wish: str) -> torch.device:
    if wish == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    return torch.device("cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu")


def _starts_from_real(cfg: Config, source: ClipSource, first: str) -> bool:
    if first == "none" or (first == "auto" and cfg.generator.no_first_img):
        if not cfg.generator.no_first_img:
            log.warning("trained with real first frames but started from nothing: "
                        "the first frames may look worse than the later ones")
        return False
    if not source.index.has("images"):
        raise UserError(f"{source.index.folder} has no real frames to start from: use --first none")
    return True


def _choose(source: ClipSource, names: tuple[str, ...]) -> list[Clip]:
    """The wanted videos, whole."""
    numbers = {source.index.videos[i].name: i for i in range(source.n_clips)}
    unknown = [name for name in names if name not in numbers]
    if unknown:
        raise UserError(f"no video {', '.join(unknown)} in {source.index.folder}: it has "
                        f"{', '.join(numbers)}")
    return [source.whole(numbers[name]) for name in names or numbers]


def _plan(clip: Clip, n_past: int, wish: Wish) -> list[Request]:
    """What to read of a video: the frames that it starts from, then one frame at a time."""
    first = wish.start_frame + n_past
    end = min(clip.n_frames, first + wish.how_many) if wish.how_many else clip.n_frames
    if first >= end:
        raise UserError(f"video {clip.name} has {clip.n_frames} frames: with {n_past} to start from, "
                        f"--start-frame can be at most {clip.n_frames - n_past - 1}")
    return [Request.span(clip, wish.start_frame, n_past), *(Request.span(clip, i, 1) for i in range(first, end))]


def _panels(frame: Frames, fake: Tensor, label_nc: int) -> dict[str, np.ndarray]:
    """The pictures of one frame by caption; `fake` (1, 3, H, W) in [-1, 1]."""
    labels = frame.labels
    given = colorize_labels(labels, label_nc)[0] if label_nc else labels[0].permute(1, 2, 0).numpy()
    panels = {"input": given, "output": image_pictures(fake)[0]}
    if frame.images is not None:
        panels["real"] = frame.images[0].permute(1, 2, 0).numpy()
    return panels


def _l1(frame: Frames, fake: Tensor) -> float | None:
    """Mean absolute difference to the real frame, both in [-1, 1]."""
    return None if frame.images is None else float((fake - to_float(frame.images, fake.dtype)).abs().mean())


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
