"""Measure generation: our generator against a plain loop over the same network, and what each switch gives.

    python -m tools.bench_generate [CONFIG] [key=value …]      default: configs/toy/cpu.yaml, random weights

The plain loop is what a first program does: it encodes all n_frames_G label frames anew as one-hot planes for every
frame, runs every branch, and leaves the networks as they were trained. Ours keeps encoded frames, normalises without
running statistics, and leaves out a foreground that no pixel shows. All of it on one device, in turn, in one process.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.load import load_config, split_arguments
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.inference.runtime import choose_device
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.network_input import encode_inputs

ROUNDS = 7
BATCH = 4


@dataclass(frozen=True)
class Switch:
    """One way to generate: `step` makes the next frame of each of `videos` videos, and waits until it is there."""

    name: str
    step: Callable[[], object]
    videos: int = 1


def main() -> None:
    file, overrides = split_arguments(sys.argv[1:])
    compiled = "compile=true" in overrides
    cfg = load_config(file or "configs/toy/cpu.yaml", [word for word in overrides if not word.startswith("compile=")])
    device = choose_device("auto")
    size = cfg.data.loadSize, cfg.data.loadSize // 2
    print(f"{size[0]}x{size[1]} on {device.type}, {torch.get_num_threads()} threads, median of {ROUNDS} rounds")
    found = measure(switches(cfg, size, device, compiled), device)
    plain = next(iter(found.values()))
    print(f"{'':44}{'frames/s':>10}{'of the plain loop':>20}")
    for name, rate in found.items():
        print(f"{name:44}{rate:10.1f}{rate / plain:19.2f}x")


def switches(cfg: Config, size: tuple[int, int], device: torch.device, compiled: bool) -> list[Switch]:
    """The ways to generate, the plain loop first."""
    with_fg, without_fg = (some_frames(cfg, size, fg) for fg in (True, False))

    def ours(frames: Frames, *, dtype: torch.dtype = torch.float32, batch: int = 1,
             compiled: bool = False) -> Callable[[], object]:
        torch.manual_seed(0)
        video = VideoGenerator(Generator(cfg), cfg, device, dtype, compiled=compiled)
        n_past = cfg.generator.n_frames_G - 1
        video.start([frames.part(slice(0, n_past))] * batch, None)
        return lambda: video.step([frames.part(slice(n_past, None))] * batch).fake.float().cpu()

    found = [Switch("plain loop: all branches, all frames encoded", PlainLoop(cfg, with_fg, device)),
             Switch("ours", ours(with_fg))]
    if cfg.generator.fg:
        found.append(Switch("ours, no foreground in the frame", ours(without_fg)))
    found += [Switch("ours, bf16", ours(with_fg, dtype=torch.bfloat16)),
              Switch(f"ours, {BATCH} videos side by side", ours(with_fg, batch=BATCH), BATCH)]
    if compiled:
        found.append(Switch("ours, compiled", ours(with_fg, compiled=True)))
    return found


class PlainLoop:
    """The same network, eager, frame by frame."""

    def __init__(self, cfg: Config, frames: Frames, device: torch.device) -> None:
        torch.manual_seed(0)
        self._cfg, self._frames, self._device = cfg, frames, device
        self._generator = Generator(cfg).to(device)
        height, width = frames.labels.shape[-2:]
        first = torch.zeros(1, cfg.generator.n_frames_G - 1, 3, height, width, device=device)
        self._history = self._generator.start_history(first)

    @torch.no_grad()
    def __call__(self) -> Tensor:
        labels = encode_inputs(self._cfg, [self._frames], self._device, torch.float32)
        chunk = self._generator.generate(labels, self._history)
        self._history = chunk.history
        return chunk.fake.cpu()


def some_frames(cfg: Config, size: tuple[int, int], with_foreground: bool) -> Frames:
    """The n_frames_G frames that a step sees: blocks of labels, with the foreground's among them or without."""
    width, height = size
    n_classes = cfg.data.label_nc
    draws = torch.Generator().manual_seed(0)
    channels, values = (1, n_classes) if n_classes else (cfg.data.input_nc, 256)
    small = torch.randint(values, (cfg.generator.n_frames_G, channels, 8, 16), generator=draws, dtype=torch.uint8)
    if cfg.generator.fg:
        foreground = torch.isin(small, torch.tensor(cfg.generator.fg_labels, dtype=torch.uint8))
        background = next(label for label in range(n_classes) if label not in cfg.generator.fg_labels)
        small[foreground] = background
        if with_foreground:
            small[:, :, 2:4, 2:4] = cfg.generator.fg_labels[0]
    labels = small.repeat_interleave(height // 8, 2).repeat_interleave(width // 16, 3)
    return Frames(labels, None, labels.int() if cfg.data.use_instance else None, [""] * len(labels))


def measure(found: Sequence[Switch], device: torch.device, rounds: int = ROUNDS) -> dict[str, float]:
    """Frames per second of each, made in turn after one round that is not counted."""
    seconds: dict[str, list[float]] = {switch.name: [] for switch in found}
    for round_number in range(rounds + 1):
        for switch in found:
            if device.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            switch.step()
            if round_number:
                seconds[switch.name].append((time.perf_counter() - started) / switch.videos)
    return {name: 1 / statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    run_main(main)
