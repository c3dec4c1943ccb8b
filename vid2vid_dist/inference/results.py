"""What generation leaves behind: PNG frames, videos and a page to look at them.

    OUT/index.html
    OUT/VIDEO/frames/NAME.png   the generated frames; of a further output, such as "edited", in frames_edited
    OUT/VIDEO/output.mp4        the same as a video; of a further output edited.mp4
    OUT/VIDEO/compare.mp4       input, output, real frames and errors side by side
    OUT/VIDEO/poster.png        one frame of it
    OUT/VIDEO/video.json        what it was made from and what came of it
"""

import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import numpy as np
from torch import Tensor

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.atomic import written_aside
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.panels import Look
from vid2vid_dist.inference.products import CompareVideo, LookVideo, PictureFiles, captions
from vid2vid_dist.inference.writers import Writers
from vid2vid_dist.monitor.html import facts, mosaic, write_page
from vid2vid_dist.monitor.svg_curves import number

T = TypeVar("T")
MAX_NAME_BYTES = 200  # file systems take 255, endings included
AUTOPLAY = 4  # so many videos play as soon as the page is open
UNITS = {
    "L1 to real": "absolute difference of colours in [−1, 1]",
    "warp error": "absolute difference of colours in [0, 1] to the frame before, moved by the flow",
    "warp error of the real": "what can be reached",
}  # fmt: skip
"""Of the figures of a video, as the page explains them."""


@dataclass
class VideoResult:
    """One generated video as the page tells it; `figures` by name and frame, their means are shown.

    `made_from` says what it depends on: a video that is there with the same need not be made again.
    """

    name: str
    folder: str
    made_from: str
    outputs: list[str]
    captions: list[str] = field(default_factory=list)
    frames: int = 0
    figures: dict[str, list[float]] = field(default_factory=dict)


class VideoFolder:
    """Has the files of one video written, by the `products`: those that take all frames, and those that take turns."""

    def __init__(self, result: VideoResult, writers: Writers, all_frames: list[int], in_turn: list[list[int]]) -> None:
        self.result, self._writers, self._all_frames, self._in_turn = result, writers, all_frames, in_turn
        self._jobs: deque[tuple[str, list[Future[dict[str, float]]]]] = deque()

    def add(self, name: str, frame: Frames, fakes: Tensor) -> None:
        """Add a frame, as read, and what was made of it, (looks, 3, H, W) float32 in [-1, 1]; it may be written later.

        Raises `UserError` when this one or an earlier one cannot be written.
        """
        turns = [products[self.result.frames % len(products)] for products in self._in_turn]
        self._jobs.append((name, self._writers.write([*self._all_frames, *turns], safe_name(name), frame, fakes)))
        self.result.frames += 1
        while self._jobs and all(job.done() for job in self._jobs[0][1]):
            self._take_figures()

    def finish(self) -> None:
        """Wait until all is written. Raises `UserError` as `add` does."""
        while self._jobs:
            self._take_figures()
        for job in self.close(complete=True):
            self._result(job, "the end")

    def close(self, complete: bool) -> list[Future[None]]:
        return self._writers.close([*self._all_frames, *(n for products in self._in_turn for n in products)], complete)

    def _take_figures(self) -> None:
        name, jobs = self._jobs.popleft()
        for job in jobs:
            for figure, value in self._result(job, f"frame {name}").items():
                self.result.figures.setdefault(figure, []).append(value)

    def _result(self, job: Future[T], what: str) -> T:
        try:
            return job.result()
        except (OSError, BrokenExecutor) as error:
            why = "a process that writes was ended, for lack of memory?" if isinstance(error, BrokenExecutor) else (
                error.strerror or error)
            raise UserError(f"video {self.result.name}: {what} cannot be written ({why}); its {self.result.frames} "
                            "frames so far are not kept, complete videos are: run the same command again") from None


class Results:
    """The results of one run of generation, in folder `out`."""

    def __init__(self, out: Path, title: str, fps: int, writers: Writers) -> None:
        self._out, self._title, self._fps, self._writers = out, title, fps, writers
        out.mkdir(parents=True, exist_ok=True)

    def require_ours(self, wanted: VideoResult) -> None:
        """Raise `UserError` when a folder of the wanted video's name holds something else: it would be replaced."""
        final = self._out / wanted.folder
        if final.exists() and not (final / "compare.mp4").is_file():
            raise UserError(f"{final} exists and was not made by generation: choose another --out")

    def done(self, wanted: VideoResult) -> VideoResult | None:
        """The wanted video, if it is there, complete, and made from the same."""
        try:
            found = VideoResult(**json.loads((self._out / wanted.folder / "video.json").read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return found if found.made_from == wanted.made_from else None

    @contextmanager
    def video(self, result: VideoResult, n_frames: int, looks: Sequence[Look], data: DataConfig, has_images: bool
              ) -> Iterator[VideoFolder]:
        """The folder of a video of n_frames. It appears when it is complete, in place of an older one."""
        result.captions = captions(looks, has_images)
        with written_aside(self._out / result.folder) as aside:
            folders = [aside / frames_folder(output) for output in result.outputs]
            for folder in folders:
                folder.mkdir()
            videos = [LookVideo(aside / f"{safe_name(output)}.mp4", self._fps, look)
                      for look, output in enumerate(result.outputs)]
            compare = CompareVideo(aside, self._fps, n_frames // 2, looks, data)
            all_frames = self._writers.open([compare, *videos])
            in_turn = [self._writers.open([PictureFiles(folder, look)] * self._writers.n_workers)
                       for look, folder in enumerate(folders)]
            written = VideoFolder(result, self._writers, all_frames, in_turn)
            try:
                yield written
                written.finish()
            except BaseException:
                wait(written.close(complete=False))
                raise
            (aside / "video.json").write_text(json.dumps(asdict(result)))

    def write_page(self, videos: Sequence[VideoResult], figures: dict[str, str]) -> None:
        """Write `index.html` with some figures on top."""
        parts = [f"<header><h1>{escape(self._title)}</h1></header>", facts(figures)]
        parts += [_section(video, autoplay=i < AUTOPLAY) for i, video in enumerate(videos)]
        known = {name for video in videos for name in video.figures}
        parts += [f"<p>{name}: {unit}.</p>" for name, unit in UNITS.items() if name in known]
        write_page(self._out / "index.html", self._title, "\n".join(parts))


def folder_names(names: Sequence[str]) -> list[str]:
    """A folder name for each video, no two alike."""
    folders: list[str] = []
    for name in names:
        folder = safe_name(name)
        while folder in folders:
            folder += "_"
        folders.append(folder)
    return folders


def frames_folder(output: str) -> str:
    return "frames" if output == "output" else f"frames_{safe_name(output)}"


def safe_name(name: str) -> str:
    """A file name for any name: nothing that leaves the folder or hides the file, and not too long."""
    plain = re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "_"
    return plain.encode()[:MAX_NAME_BYTES].decode(errors="ignore")


def _section(video: VideoResult, *, autoplay: bool) -> str:
    files = quote(video.folder)
    figures = {"frames": str(video.frames)}
    figures |= {name: number(float(np.mean(values))) for name, values in video.figures.items()}
    tiles = mosaic(f"{video.folder}/poster.png", f"{video.folder}/compare.mp4", video.captions,
                   autoplay=autoplay, controls=True)
    links = " · ".join(
        f'<a href="{files}/{quote(safe_name(output))}.mp4">{escape(output)}</a> '
        f'(<a href="{files}/{quote(frames_folder(output))}/">frames</a>)' for output in video.outputs)
    return f"<h2>{escape(video.name)}</h2>{facts(figures)}{tiles}<p>{links}</p>"
