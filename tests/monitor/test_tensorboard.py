"""Events, read back the way TensorBoard reads them."""

import io
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vid2vid_dist.monitor.tensorboard import TensorBoardLog


def read(run_dir: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run_dir / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_scalars_pictures_and_clips(tmp_path: Path) -> None:
    frames = np.zeros((4, 16, 24, 3), np.uint8)
    frames[:, :, 12:] = (200, 30, 90)
    log = TensorBoardLog(tmp_path)
    log.scalars(10, {"loss/L1": 0.25, "loss/G_GAN": float("nan")})
    log.image(10, "sample/fake", frames[0])
    log.clip(10, "clip/fake", frames, fps=8)
    log.close()
    events = read(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("loss/L1")] == [(10, 0.25)]
    picture = Image.open(io.BytesIO(events.Images("sample/fake")[0].encoded_image_string))
    assert np.array_equal(np.asarray(picture), frames[0])
    clip = Image.open(io.BytesIO(events.Images("clip/fake")[0].encoded_image_string))
    assert (clip.format, clip.size) == ("GIF", (24, 16))
    assert np.abs(np.asarray(clip.convert("RGB")).astype(int) - frames[0]).max() <= 8


def test_a_resumed_run_voids_later_events(tmp_path: Path) -> None:
    first = TensorBoardLog(tmp_path)
    for step in (10, 20, 30, 40):
        first.scalars(step, {"loss/L1": 1.0})
    first.close()
    resumed = TensorBoardLog(tmp_path)
    resumed.scalars(30, {"loss/L1": 2.0})
    resumed.close()
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("loss/L1")] == [(10, 1.0), (20, 1.0), (30, 2.0)]


def test_a_refused_write_leaves_the_file_whole(tmp_path: Path) -> None:
    """The kernel takes a part of what is written and refuses the rest, as on a disk that fills up."""
    log = TensorBoardLog(tmp_path)
    log.scalars(10, {"loss/L1": 1.0})
    (file,) = (tmp_path / "tensorboard").iterdir()
    size = file.stat().st_size
    with file_size_limit(size + 20), pytest.raises(OSError, match="File too large"):
        log.scalars(20, {"loss/L1": 2.0})
    assert file.stat().st_size == size
    log.scalars(30, {"loss/L1": 3.0})
    log.close()
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("loss/L1")] == [(10, 1.0), (30, 3.0)]


def test_a_file_that_cannot_begin_is_begun_later(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path)
    with file_size_limit(20), pytest.raises(OSError, match="File too large"):
        log.scalars(10, {"loss/L1": 1.0})
    log.scalars(20, {"loss/L1": 2.0})
    log.close()
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("loss/L1")] == [(20, 2.0)]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
