"""Measure the first convolution over label maps, looked up against multiplied, at 512, 1024 and 2048 on this device.

    python -m tools.bench_label_conv [key=value …]      part of `make bench-step`

The finest scale's of the street recipes, at full width, forward and backward of one window of label frames from
data.shards, by default the toy street brought to the size. Both ways run in turn in one process; medians. FLOPs are
those of the convolution, a multiply-add counts as two: looking up adds, it does not multiply.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from launch._cli import run_main
from tools.bench_step import SIZES, configured
from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.data.toy_street import ensure_toy_shards
from vid2vid_dist.engine.lane import encode_inputs
from vid2vid_dist.engine.precision import DTYPES
from vid2vid_dist.inference.runtime import choose_device
from vid2vid_dist.models.label_conv import label_convolution
from vid2vid_dist.models.labels import EncodedLabels

ROUNDS = 3


def main() -> None:
    overrides = sys.argv[1:]
    if not any(override.startswith("data.shards=") for override in overrides):
        ensure_toy_shards(Path(DataConfig().shards))
    for size in SIZES:
        print(compare(configured(size, 0, overrides)), flush=True)


def compare(cfg: Config) -> str:
    """One line of figures for the label convolution of a configuration's finest scale."""
    device, dtype = choose_device(cfg.run.device), DTYPES[cfg.optim.precision]
    source = ClipSource(cfg.data, cfg.generator.n_frames_G, cfg.run.seed)
    n_frames = cfg.generator.n_frames_G
    frames = source.load(Request.span(source.clip(1, 0, 1, 1), 0, n_frames))
    labels = encode_inputs(cfg, [frames], device, dtype)
    width = cfg.generator.ngf >> (cfg.generator.n_scales_spatial - 1)
    conv = nn.Conv2d(n_frames * cfg.label_channels, width, 7, device=device, dtype=dtype)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    flops = {}
    for round_number in range(ROUNDS + 1):
        for gather in seconds:
            if round_number:
                seconds[gather].append(_timed(labels, conv, gather))
                continue
            with FlopCounterMode(display=False) as counter:
                _run(labels, conv, gather)
            flops[gather] = counter.get_total_flops()
    looked_up, multiplied = (statistics.median(seconds[gather]) for gather in (True, False))
    height, wide = frames.labels.shape[-2:]
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    return (f"label convolution {wide}x{height}, {conv.in_channels} to {width} channels, {cfg.optim.precision}, "
            f"{name}: multiplied {flops[False] / 1e9:.1f} GFLOP, {multiplied:.3f} s; looked up "
            f"{flops[True] / 1e9:.1f} GFLOP, {looked_up:.3f} s; ratio {multiplied / looked_up:.2f}")


def _run(labels: EncodedLabels, conv: nn.Conv2d, gather: bool) -> Tensor:
    out = label_convolution(labels, conv, gather)
    out.backward(torch.ones_like(out))
    conv.zero_grad()
    return out


def _timed(labels: EncodedLabels, conv: nn.Conv2d, gather: bool) -> float:
    if conv.weight.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    _run(labels, conv, gather)
    if conv.weight.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    run_main(main)
