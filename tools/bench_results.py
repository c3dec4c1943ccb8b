"""Measure how fast the results of generation are written: frames per second of one core, in processor time.

    python -m tools.bench_results [FOLDER]        part of `make bench-generate`

The frames are the pictures below FOLDER, else of the toy street with noise, which compresses about as photographs do.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.images import read_rgb, to_array, to_float
from vid2vid_dist.inference.panels import Look
from vid2vid_dist.inference.products import CompareVideo, LookVideo, PictureFiles
from vid2vid_dist.inference.writers import Product
from vid2vid_dist.toy.street import ToyStreet

WIDTHS = (512, 1024, 2048)
N_FRAMES = 12


def main() -> None:
    pictures = some_pictures(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    products: dict[str, Callable[[Path], Product]] = {
        "PNG": lambda folder: PictureFiles(folder, 0),
        "mp4": lambda folder: LookVideo(folder / "output.mp4", 15, 0),
        "compare.mp4 and figures": lambda folder: CompareVideo(folder, 15, 0, [Look()], DataConfig()),
    }
    print(f"{'written, frames/s of a core':32}" + "".join(f"{width:>8}" for width in WIDTHS))
    for name, build in products.items():
        rates = [rate(build, [picture.resize((width, width // 2)) for picture in pictures]) for width in WIDTHS]
        print(f"{name:32}" + "".join(f"{found:8.1f}" for found in rates))


def some_pictures(folder: Path | None) -> list[Image.Image]:
    """RGB, 2048x1024."""
    if folder is not None:
        files = sorted(file for file in folder.rglob("*") if file.suffix in (".png", ".jpg"))[:N_FRAMES]
        return [read_rgb(file.read_bytes(), str(file)).resize((2048, 1024)) for file in files]
    street, rng = ToyStreet(0, N_FRAMES, 1024, 512), np.random.default_rng(0)
    return [Image.fromarray(np.clip(frame.image + rng.normal(0, 4, (512, 1024, 3)), 0, 255).astype(np.uint8))
            .resize((2048, 1024)) for frame in street.frames()]


def rate(build: Callable[[Path], Product], pictures: list[Image.Image]) -> float:
    """With the end of the video."""
    frames = [one_frame(to_float(torch.from_numpy(to_array(picture))[None], torch.float32)) for picture in pictures]
    with tempfile.TemporaryDirectory() as folder:
        product, seconds = build(Path(folder)), []
        for number, (frame, fakes) in enumerate(frames):
            started = time.process_time()
            product.add(str(number), frame, fakes)
            if number == len(frames) - 1:
                product.close(complete=True)
            seconds.append(time.process_time() - started)
    return len(seconds) / sum(seconds)


def one_frame(fakes: Tensor) -> tuple[Frames, Tensor]:
    """(1, 3, H, W) as made, with label maps of blocks and a real frame that is alike."""
    height, width = fakes.shape[-2:]
    labels = torch.arange(32, dtype=torch.uint8).view(1, 1, 4, 8)
    labels = labels.repeat_interleave(height // 4, 2).repeat_interleave(width // 8, 3)
    images = ((fakes + 1) * 127.5).byte()
    return Frames(labels, images, None, [""]), fakes


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_main(main)
