"""What generation leaves behind: PNG frames, videos and a page to look at them.

    OUT/index.html
    OUT/VIDEO/frames/NAME.png   the generated frames
    OUT/VIDEO/output.mp4        the same as a video
    OUT/VIDEO/compare.mp4       input, output and real frames side by side
    OUT/VIDEO/poster.png        one frame of it
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor.curves import number
from vid2vid_dist.monitor.html import facts, mosaic, write_page
from vid2vid_dist.monitor.pictures import reduced, tile
from vid2vid_dist.monitor.video import VideoWriter

COMPARE_PANEL_WIDTH = 1024  # pixels; wider panels of compare.mp4 are reduced, output.mp4 never
MAX_NAME_BYTES = 200  # file systems take 255, endings included
AUTOPLAY = 4  # so many videos play as soon as the page is open


@dataclass
class VideoResult:
    """One generated video as the page tells it; `l1` by frame."""

    name: str
    folder: str
    captions: list[str] = field(default_factory=list)
    frames: int = 0
    l1: list[float] = field(default_factory=list)


class VideoFolder:
    """Writes the files of one video."""

    def __init__(self, folder: Path, result: VideoResult, output: VideoWriter, compare: VideoWriter,
                 poster_frame: int) -> None:
        self._folder, self.result = folder, result
        self._output, self._compare, self._poster_frame = output, compare, poster_frame

    def add(self, name: str, panels: dict[str, np.ndarray], l1: float | None) -> None:
        """Add a frame: pictures `(H, W, 3)` uint8 by caption, in their order; "output" is the generated one.

        `l1` is its mean absolute difference to the real frame, if there is one.
        """
        Image.fromarray(panels["output"]).save(self._folder / "frames" / f"{safe_name(name)}.png")
        self._output.write(panels["output"])
        wide = tile([picture[None] for picture in panels.values()])
        tiled = reduced(wide, panels["output"].shape[1], COMPARE_PANEL_WIDTH)[0]
        self._compare.write(tiled)
        if self.result.frames == self._poster_frame:
            Image.fromarray(tiled).save(self._folder / "poster.png")
        self.result.captions = list(panels)
        self.result.frames += 1
        if l1 is not None:
            self.result.l1.append(l1)


class Results:
    """The results of one run of generation, in folder `out`."""

    def __init__(self, out: Path, title: str, fps: int) -> None:
        self._out, self._title, self._fps = out, title, fps
        self.videos: list[VideoResult] = []
        out.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def video(self, name: str, n_frames: int) -> Iterator[VideoFolder]:
        """The folder of a video of n_frames. It appears when it is complete, in place of an older one.

        Raises `UserError` when a folder of that name holds something else.
        """
        taken = {video.folder for video in self.videos}
        folder_name = safe_name(name)
        while folder_name in taken:
            folder_name += "_"
        final, aside = self._out / folder_name, self._out / f".{folder_name}.part"
        if final.exists() and not (final / "compare.mp4").is_file():
            raise UserError(f"{final} exists and was not made by generation: choose another --out")
        shutil.rmtree(aside, ignore_errors=True)
        (aside / "frames").mkdir(parents=True)
        result = VideoResult(name, folder_name)
        try:
            with VideoWriter(aside / "output.mp4", self._fps) as output, \
                    VideoWriter(aside / "compare.mp4", self._fps) as compare:
                yield VideoFolder(aside, result, output, compare, poster_frame=n_frames // 2)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(aside, final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self.videos.append(result)

    def write_page(self, figures: dict[str, str]) -> Path:
        """Write `index.html` with some figures on top; gives its path."""
        parts = [f"<header><h1>{escape(self._title)}</h1></header>", facts(figures)]
        parts += [_section(video, autoplay=i < AUTOPLAY) for i, video in enumerate(self.videos)]
        page = self._out / "index.html"
        write_page(page, self._title, "\n".join(parts))
        return page


def safe_name(name: str) -> str:
    """A file name for any name: nothing that leaves the folder or hides the file, and not too long."""
    plain = re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "_"
    return plain.encode()[:MAX_NAME_BYTES].decode(errors="ignore")


def _section(video: VideoResult, *, autoplay: bool) -> str:
    files = quote(video.folder)
    figures = {"frames": str(video.frames)}
    if video.l1:
        figures["L1 to real"] = number(float(np.mean(video.l1)))
    tiles = mosaic(f"{video.folder}/poster.png", f"{video.folder}/compare.mp4", video.captions,
                   autoplay=autoplay, controls=True)
    links = f'<p><a href="{files}/output.mp4">output.mp4</a> · <a href="{files}/frames/">frames</a></p>'
    return f"<h2>{escape(video.name)}</h2>{facts(figures)}{tiles}{links}"
