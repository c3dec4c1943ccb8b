"""What generation leaves behind: PNG frames, videos and a page to look at them.

    OUT/index.html
    OUT/VIDEO/frames/NAME.png   the generated frames; of a further output, such as "edited", in frames_edited
    OUT/VIDEO/output.mp4        the same as a video; of a further output edited.mp4
    OUT/VIDEO/compare.mp4       input, output, real frames and errors side by side
    OUT/VIDEO/poster.png        one frame of it
    OUT/VIDEO/video.json        what it was made from and what came of it
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from vid2vid_dist.data.atomic import written_aside
from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor.html import facts, mosaic, write_page
from vid2vid_dist.monitor.pictures import reduced, tile
from vid2vid_dist.monitor.svg_curves import number
from vid2vid_dist.monitor.video import VideoWriter

COMPARE_PANEL_WIDTH = 1024  # pixels; wider panels of compare.mp4 are reduced, the outputs never
MAX_NAME_BYTES = 200  # file systems take 255, endings included
AUTOPLAY = 4  # so many videos play as soon as the page is open


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
    """Writes the files of one video."""

    def __init__(self, folder: Path, result: VideoResult, poster_frame: int, fps: int, stack: ExitStack) -> None:
        self._folder, self.result, self._poster_frame = folder, result, poster_frame

        def writer(name: str) -> VideoWriter:
            return stack.enter_context(VideoWriter(folder / f"{name}.mp4", fps))

        for output in result.outputs:
            (folder / frames_folder(output)).mkdir()
        self._outputs = {output: writer(safe_name(output)) for output in result.outputs}
        self._compare = writer("compare")

    def add(self, name: str, panels: dict[str, np.ndarray], figures: dict[str, float]) -> None:
        """Add a frame: pictures `(H, W, 3)` uint8 by caption, in their order, every output among them."""
        for output, video in self._outputs.items():
            Image.fromarray(panels[output]).save(self._folder / frames_folder(output) / f"{safe_name(name)}.png")
            video.write(panels[output])
        wide = tile([picture[None] for picture in panels.values()])
        tiled = reduced(wide, next(iter(panels.values())).shape[1], COMPARE_PANEL_WIDTH)[0]
        self._compare.write(tiled)
        if self.result.frames == self._poster_frame:
            Image.fromarray(tiled).save(self._folder / "poster.png")
        self.result.captions = list(panels)
        self.result.frames += 1
        for figure, value in figures.items():
            self.result.figures.setdefault(figure, []).append(value)


class Results:
    """The results of one run of generation, in folder `out`."""

    def __init__(self, out: Path, title: str, fps: int) -> None:
        self._out, self._title, self._fps = out, title, fps
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
        except (OSError, ValueError, TypeError):
            return None
        return found if found.made_from == wanted.made_from else None

    @contextmanager
    def video(self, result: VideoResult, n_frames: int) -> Iterator[VideoFolder]:
        """The folder of a video of n_frames. It appears when it is complete, in place of an older one."""
        with written_aside(self._out / result.folder) as aside:
            with ExitStack() as stack:
                yield VideoFolder(aside, result, n_frames // 2, self._fps, stack)
            (aside / "video.json").write_text(json.dumps(asdict(result)))

    def write_page(self, videos: Sequence[VideoResult], figures: dict[str, str]) -> Path:
        """Write `index.html` with some figures on top; gives its path."""
        parts = [f"<header><h1>{escape(self._title)}</h1></header>", facts(figures)]
        parts += [_section(video, autoplay=i < AUTOPLAY) for i, video in enumerate(videos)]
        page = self._out / "index.html"
        write_page(page, self._title, "\n".join(parts))
        return page


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
