"""Results are written by processes as by a thread, in order, in bounded memory; what cannot be written is said."""

import json
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.edits import LabelEdit
from vid2vid_dist.inference.generate import GenerationOptions, generate
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.products import save_png
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.inference.writers import Writers
from vid2vid_dist.models.generator import GeneratedChunk

MakeRun = Callable[..., Path]


def pixels(file: Path) -> list[np.ndarray]:
    if file.suffix == ".png":
        return [np.asarray(Image.open(file))]
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_processes_write_what_a_thread_writes(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    """Every file, and the figures in the order of the frames: of two videos side by side, with an edit."""
    loaded = load_generator(make_run(cfg))
    for n in (0, 2):
        options = GenerationOptions(device="cpu", batch=2, edit=LabelEdit(classes=((1, 2),)), writers=n)
        assert generate(loaded, options, tmp_path / str(n)).frames == 8
    assert not multiprocessing.active_children()
    one, other = ({path.relative_to(tmp_path / n): path for path in (tmp_path / n).glob("*/**/*.*")} for n in "02")
    assert one.keys() == other.keys()
    assert len(one) == 2 * (8 + 5)
    for name, path in one.items():
        if path.suffix == ".json":
            assert json.loads(path.read_text()) == json.loads(other[name].read_text())
        else:
            # x264 with threads of its own does not give one file twice.
            found, expected = np.array(pixels(path), float), np.array(pixels(other[name]), float)
            assert found.shape == expected.shape
            assert abs(found - expected).mean() < (1 if path.suffix == ".mp4" else 1e-9)
    figures = json.loads((tmp_path / "2/park/video.json").read_text())["figures"]
    assert {name: len(values) for name, values in figures.items()}["L1 to real"] == 5


@contextmanager
def interrupted_by(event: Callable[[], None], after: int) -> Iterator[None]:
    """`event` comes before the frame that follows `after` others."""
    step, n_steps = VideoGenerator.step, 0

    def interrupted(self: VideoGenerator, frames: list[Frames]) -> GeneratedChunk:
        nonlocal n_steps
        n_steps += 1
        if n_steps == after + 1:
            event()
        return step(self, frames)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoGenerator, "step", interrupted)
        yield


def test_a_writer_that_is_killed_is_said(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    """In the second video: the first one is complete, nothing is left of the second, and the next run makes it."""
    def kill() -> None:
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    loaded, options = load_generator(make_run(cfg)), GenerationOptions(device="cpu", writers=1)
    words = r"video a & b: .*cannot be written \(a process that writes was ended"
    with interrupted_by(kill, 6), pytest.raises(UserError, match=words):
        generate(loaded, options, tmp_path / "out")
    assert not multiprocessing.active_children()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["park"]
    outcome = generate(loaded, options, tmp_path / "out")
    assert (outcome.frames, outcome.kept) == (3, 1)


@pytest.mark.parametrize("n_writers", [0, 1])
def test_a_full_disk_is_said(cfg: Config, make_run: MakeRun, tmp_path: Path, n_writers: int) -> None:
    """The system refuses to write more than 200 bytes into a file, as it refuses all on a full disk."""
    loaded, before = load_generator(make_run(cfg)), resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit() -> None:
        for pid in [child.pid or 0 for child in multiprocessing.active_children()] or [0]:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (200, before[1]))

    words = r"video park: .*cannot be written \(File too large"
    try:
        with interrupted_by(limit, 1), pytest.raises(UserError, match=words):
            generate(loaded, GenerationOptions(device="cpu", writers=n_writers), tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "out").glob("*"))


class Held:
    """Takes a frame when it is let go."""

    def __init__(self) -> None:
        self.go, self.seen = threading.Event(), list[float]()

    def add(self, name: str, frame: Frames, fakes: Tensor) -> dict[str, float]:
        assert self.go.wait(60)
        self.seen.append(float(fakes.mean()))
        return {name: float(frame.labels.float().mean())}

    def close(self, complete: bool) -> None:
        pass


def test_at_most_some_frames_are_held() -> None:
    """The fourth frame waits for a free slot; each is seen as it was given, though its memory is used again."""
    held, n_given = Held(), 0
    with Writers(0) as writers:
        products = writers.open([held])
        jobs = []

        def give() -> None:
            nonlocal n_given
            for t in range(9):
                frame = Frames(torch.full((1, 1, 4, 4), t, dtype=torch.uint8), None, None, [""])
                jobs.extend(writers.write(products, str(t), frame, torch.full((1, 3, 4, 4), 10.0 * t)))
                n_given += 1

        giver = threading.Thread(target=give)
        giver.start()
        giver.join(1)
        assert n_given == 3
        held.go.set()
        giver.join(60)
        assert held.seen == [10.0 * t for t in range(9)][: len(held.seen)]
        assert [job.result() for job in jobs] == [{str(t): t} for t in range(9)]
    assert held.seen == [10.0 * t for t in range(9)]


@pytest.mark.parametrize("size", [(1, 1), (37, 19), (64, 200)])
def test_pictures_are_kept_bit_for_bit(size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With OpenCV and without."""
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    save_png(picture, tmp_path / "a.png")
    monkeypatch.setattr("vid2vid_dist.inference.products.find_spec", lambda name: None)
    save_png(picture, tmp_path / "b.png")
    for file in ("a.png", "b.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / file)), picture)
