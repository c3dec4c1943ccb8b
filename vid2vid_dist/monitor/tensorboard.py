"""The mirror of the journal in TensorBoard: scalars, pictures and clips."""

import io
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from torch.utils.tensorboard import summary

from vid2vid_dist.monitor.dashboard import LAYOUT


class TensorBoardLog:
    """Writes an event file under `run_dir/tensorboard`.

    Raises `OSError` when the disk does not take events: those of the call are lost, what follows is written again.
    """

    def __init__(self, run_dir: Path) -> None:
        self._dir = run_dir / "tensorboard"
        self._file: EventFile | None = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars by tag, such as `loss/G_GAN`."""
        self._add(step, [summary.scalar(tag, value) for tag, value in values.items()])

    def spread(self, step: int, tag: str, edges: Sequence[float], above: Sequence[float]) -> None:
        """A histogram from the fractions of values at or above each edge; the outer bins reach a step further."""
        step_of = edges[1] - edges[0]
        limits = [*edges, edges[-1] + step_of]
        counts = [a - b for a, b in pairwise([1.0, *above, 0.0])]
        centres = [limit - step_of / 2 for limit in limits]
        self._add(step, [summary.histogram_raw(
            tag, limits[0] - step_of, limits[-1], 1, sum(c * x for c, x in zip(counts, centres, strict=True)),
            sum(c * x * x for c, x in zip(counts, centres, strict=True)), limits, counts)])

    def image(self, step: int, tag: str, picture: np.ndarray) -> None:
        """A picture `(H, W, 3)` uint8."""
        self._add(step, [summary.image(tag, picture, dataformats="HWC")])

    def clip(self, step: int, tag: str, frames: np.ndarray, fps: int) -> None:
        """A clip `(T, H, W, 3)` uint8. TensorBoard has no video player, but it shows animated GIFs."""
        images = [Image.fromarray(frame).quantize(method=Image.Quantize.FASTOCTREE) for frame in frames]
        data = io.BytesIO()
        images[0].save(data, "GIF", save_all=True, append_images=images[1:], duration=1000 // fps, loop=0)
        height, width = frames.shape[1:3]
        gif = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data.getvalue())
        self._add(step, [Summary(value=[Summary.Value(tag=tag, image=gif)])])

    def _add(self, step: int, summaries: Sequence[Summary]) -> None:
        if self._file is None:  # the first step is only known now; older runs' events from it on are void
            self._file = EventFile(self._dir, step)
        self._file.write([Event(step=step, summary=item) for item in summaries])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class EventFile:
    """An event file that begins at a step of the run, with the layout of the dashboard.

    TensorBoard's own writer hands events to a thread, which dies of a full disk and prints its stack. Here they are
    in the file when `write` returns, or it raises `OSError` and the file ends where it ended before.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = path.open("xb", buffering=0)
        try:
            self.write([Event(file_version="brain.Event:2"),
                        Event(step=first_step, session_log=SessionLog(status=SessionLog.START)),
                        Event(summary=summary.custom_scalars(LAYOUT))])
        except OSError:  # the next one begins again
            self.close()
            with suppress(OSError):
                path.unlink()
            raise

    def write(self, events: Sequence[Event]) -> None:
        records, end, now = io.BytesIO(), self._file.tell(), time.time()
        for event in events:
            event.wall_time = now
            RecordWriter(records).write(event.SerializeToString())
        pending = records.getbuffer()
        try:
            while pending:
                pending = pending[self._file.write(pending):]
        except OSError:
            with suppress(OSError):
                self._file.truncate(end)
            self._file.seek(end)
            raise

    def close(self) -> None:
        self._file.close()
