"""The mirror of the journal in TensorBoard: scalars, pictures and clips."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter

from vid2vid_dist.monitor.dashboard import LAYOUT


class TensorBoardLog:
    """Writes event files under `run_dir/tensorboard`.

    Raises `OSError` when the disk does not take events: they are lost, those after them go into a new file.
    """

    def __init__(self, run_dir: Path) -> None:
        self._dir = run_dir / "tensorboard"
        self._writer: SummaryWriter | None = None

    @contextmanager
    def _at(self, step: int) -> Iterator[SummaryWriter]:
        try:
            if self._writer is None:  # the first step is only known now; older runs' events from it on are void
                self._writer = SummaryWriter(str(self._dir), purge_step=step)
                self._writer.add_custom_scalars(LAYOUT)
            yield self._writer
        except OSError:  # the thread that writes the file has ended with it
            with suppress(OSError):
                self.close()
            self._writer = None
            raise

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars by tag, such as `loss/G_GAN`."""
        with self._at(step) as writer:
            for tag, value in values.items():
                writer.add_scalar(tag, value, step)
            writer.flush()

    def spread(self, step: int, tag: str, edges: Sequence[float], above: Sequence[float]) -> None:
        """A histogram from the fractions of values at or above each edge; the outer bins reach a step further."""
        step_of = edges[1] - edges[0]
        limits = [*edges, edges[-1] + step_of]
        counts = [a - b for a, b in pairwise([1.0, *above, 0.0])]
        centres = [limit - step_of / 2 for limit in limits]
        with self._at(step) as writer:
            writer.add_histogram_raw(
                tag, limits[0] - step_of, limits[-1], 1, sum(c * x for c, x in zip(counts, centres, strict=True)),
                sum(c * x * x for c, x in zip(counts, centres, strict=True)), limits, counts, step)

    def image(self, step: int, tag: str, picture: np.ndarray) -> None:
        """A picture `(H, W, 3)` uint8."""
        with self._at(step) as writer:
            writer.add_image(tag, picture, step, dataformats="HWC")

    def clip(self, step: int, tag: str, frames: np.ndarray, fps: int) -> None:
        """A clip `(T, H, W, 3)` uint8. TensorBoard has no video player, but it shows animated GIFs."""
        images = [Image.fromarray(frame).quantize(method=Image.Quantize.FASTOCTREE) for frame in frames]
        data = io.BytesIO()
        images[0].save(data, "GIF", save_all=True, append_images=images[1:], duration=1000 // fps, loop=0)
        height, width = frames.shape[1:3]
        gif = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data.getvalue())
        summary = Summary(value=[Summary.Value(tag=tag, image=gif)])
        with self._at(step) as writer:
            writer._get_file_writer().add_summary(summary, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
