"""What is written of a video's frames: PNG files, a video of each output, a video that compares."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from vid2vid_dist.config.schema import DataConfig, FlowConfig
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.inference.panels import FrameView, Look
from vid2vid_dist.models.flow import build_flow
from vid2vid_dist.monitor.pictures import image_pictures, reduced, tile
from vid2vid_dist.monitor.video import VideoWriter

COMPARE_PANEL_WIDTH = 1024  # pixels; wider panels of compare.mp4 are reduced, the outputs never


class PictureFiles:
    """PNG files of frames of a look."""

    def __init__(self, folder: Path, look: int) -> None:
        self._folder, self._look = folder, look

    def add(self, name: str, frame: Frames, fakes: Tensor) -> dict[str, float]:
        save_png(image_pictures(fakes[self._look][None])[0], self._folder / f"{name}.png")
        return {}

    def close(self, complete: bool) -> None:
        pass


class LookVideo:
    """The video of a look."""

    def __init__(self, path: Path, fps: int, look: int) -> None:
        self._video, self._look = VideoWriter(path, fps), look

    def add(self, name: str, frame: Frames, fakes: Tensor) -> dict[str, float]:
        self._video.write(image_pictures(fakes[self._look][None])[0])
        return {}

    def close(self, complete: bool) -> None:
        self._video.close(complete)


class CompareVideo:
    """The video of all panels, one frame of it as poster.png, and the figures."""

    def __init__(self, folder: Path, fps: int, poster_frame: int, looks: Sequence[Look], data: DataConfig) -> None:
        self._folder, self._poster_frame, self._n_frames = folder, poster_frame, 0
        self._video = VideoWriter(folder / "compare.mp4", fps)
        self._view = FrameView(looks, data, build_flow(FlowConfig()) if find_spec("cv2") else None)

    def add(self, name: str, frame: Frames, fakes: Tensor) -> dict[str, float]:
        panels, figures = self._view.panels(frame, fakes.clone())  # it keeps them for the next frame
        wide = tile([picture[None] for picture in panels.values()])
        tiled = reduced(wide, fakes.shape[-1], COMPARE_PANEL_WIDTH)[0]
        self._video.write(tiled)
        if self._n_frames == self._poster_frame:
            Image.fromarray(tiled).save(self._folder / "poster.png")
        self._n_frames += 1
        return figures

    def close(self, complete: bool) -> None:
        self._video.close(complete)


@contextmanager
def closed(video: CompareVideo) -> Iterator[None]:
    """Around the frames of a video, which is complete or absent."""
    try:
        yield
    except BaseException:
        video.close(complete=False)
        raise
    video.close(complete=True)


def captions(looks: Sequence[Look], has_images: bool) -> list[str]:
    """Of the panels of `CompareVideo`, in their order."""
    names = [look.input_name for look in looks] + [look.name for look in looks]
    more = [*(["real"] if has_images else []), *(["warp error"] if find_spec("cv2") else [])]
    return [*dict.fromkeys(names), *more]


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write (H, W, 3) uint8 with Huffman codes alone: as small as with searches, which take ten times as long."""
    if find_spec("cv2"):
        import cv2

        options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
        path.write_bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes())
    else:
        Image.fromarray(picture).save(path, compress_level=1, compress_type=zlib.Z_HUFFMAN_ONLY)
