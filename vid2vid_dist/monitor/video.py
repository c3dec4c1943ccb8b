"""Videos that a browser plays (PyAV: H.264 in mp4)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

log = logging.getLogger(__name__)


class VideoWriter:
    """Writes an mp4 frame by frame, as a context manager. The file appears only when it is complete; nothing is open
    before the first frame, until which a writer may be pickled.

    Odd sizes lose nothing: the last row or column is repeated, since yuv420p needs even sizes.
    """

    _stream: av.VideoStream

    def __init__(self, path: Path, fps: int) -> None:
        self._path, self._fps = path, fps
        self._part = path.with_name(f".{path.name}.part")
        self._container: av.container.OutputContainer | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append one uint8 RGB frame `(H, W, 3)`; all frames have one size."""
        height, width = frame.shape[:2]
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._container is None:
            self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "faststart"})
            self._stream = self._open_stream(self._container, frame.shape[1], frame.shape[0])
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        self._container.mux(self._stream.encode(picture))

    def _open_stream(self, container: av.container.OutputContainer, width: int, height: int) -> av.VideoStream:
        options = {"crf": "18", "preset": "superfast"}
        codec = "libx264"
        if codec not in av.codecs_available:
            log.warning("this PyAV has no libx264: %s becomes MPEG-4, which browsers do not play", self._path)
            codec, options = "mpeg4", {"qscale": "2"}
        stream = container.add_stream(codec, rate=Fraction(self._fps), options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # Without these tags players guess the colour matrix from the size, and guess differently.
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return stream

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(complete=kind is None)

    def close(self, complete: bool) -> None:
        """End the file, or remove what there is of it."""
        if self._container is None:
            return
        if complete:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        if complete:
            os.replace(self._part, self._path)
        else:
            self._part.unlink(missing_ok=True)


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    """Write uint8 RGB frames `(H, W, 3)` as an mp4."""
    with VideoWriter(path, fps) as video:
        for frame in frames:
            video.write(frame)
