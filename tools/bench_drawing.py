"""Measure how fast faces and bodies are drawn from their keypoints: the input alone, frames of 1280x720, one core.

    python -m tools.bench_drawing        part of `make bench`, and of `make bench-data`
"""

import statistics
import tempfile
import time
from pathlib import Path

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.toy import TOYS
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions

SETTINGS = {
    "face, 512x512": DataConfig(task="face", label_nc=0, input_nc=15),
    "face without background edges": DataConfig(task="face", label_nc=0, input_nc=15, no_canny_edge=True),
    "pose, 448x512": DataConfig(task="pose", label_nc=0, input_nc=6, resize_or_crop="scaleHeight"),
    "pose, DensePose alone": DataConfig(task="pose", label_nc=0, input_nc=3, resize_or_crop="scaleHeight",
                                        densepose_only=True),
}
N_FRAMES = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pack_toys(Path(folder))
        for name, data in SETTINGS.items():
            data.shards = str(Path(folder) / data.task)
            print(f"drawing            {rate(data):8.0f} frames/s on one core ({name})")


def pack_toys(folder: Path) -> None:
    """The shards of each task, below `folder`."""
    for task in ("face", "pose"):
        raw = folder / f"raw_{task}"
        TOYS[task].render(raw, ToyOptions(n_train=1, n_test=1, n_frames=N_FRAMES, width=1280, height=720))
        make_shards(raw, folder / task, PackOptions(task=task))


def rate(data: DataConfig) -> float:
    """Frames per second of processor time: a busy machine does not count."""
    source = ClipSource(data, n_frames_G=3, seed=0)
    clip = source.whole(0)
    seconds = []
    for frame in range(N_FRAMES):
        started = time.process_time()
        source.load(Request(clip, labels=(frame,), images=()))
        seconds.append(time.process_time() - started)
    return 1 / statistics.median(seconds)


if __name__ == "__main__":
    run_main(main)
