"""Measure the first convolution over label maps, looked up against multiplied, at 512, 1024 and 2048 on this device.

    python -m tools.bench_label_conv [key=value …]      part of `make bench-step`

The finest scale's of the street recipes, at full width, forward and backward of one window of label frames from
data.shards, by default the toy street brought to the size. Both ways run in turn in one process; medians. FLOPs are
those of the convolution, a multiply-add counts as two: looking up adds, it does not multiply.
"""

import sys
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tools.bench_generate import Switch, measure
from tools.bench_step import SIZES, configured, device_name, provide_shards
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource, Request
from vid2vid_dist.inference.runtime import choose_device
from vid2vid_dist.models.label_conv import label_convolution
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.network_input import encode_inputs

ROUNDS = 3


def main() -> None:
    provide_shards(sys.argv[1:])
    for size in SIZES:
        print(compare(configured(size, 0, sys.argv[1:])), flush=True)


def compare(cfg: Config) -> str:
    """One line of figures for the label convolution of a configuration's finest scale."""
    device, dtype = choose_device(cfg.run.device), DTYPES[cfg.optim.precision]
    source = ClipSource.of(cfg)
    n_frames = cfg.generator.n_frames_G
    frames = source.load(Request.span(source.clip(1, 0, 1, 1), 0, n_frames))
    labels = encode_inputs(cfg, [frames], device, dtype)
    channels = cfg.generator.ngf >> (cfg.generator.n_scales_spatial - 1)
    conv = nn.Conv2d(n_frames * cfg.label_channels, channels, 7, device=device, dtype=dtype)

    def run(gather: bool) -> float:
        conv.zero_grad()
        out = label_convolution(labels, conv, gather)
        out.backward(torch.ones_like(out))
        assert conv.weight.grad is not None
        return float(conv.weight.grad.sum())  # which waits for the device

    ways, flops = {"multiplied": False, "looked up": True}, {}
    for name, gather in ways.items():
        with FlopCounterMode(display=False) as counter:
            run(gather)
        flops[name] = counter.get_total_flops()
    rates = measure([Switch(name, partial(run, gather)) for name, gather in ways.items()], device, ROUNDS)
    told = "; ".join(f"{name} {flops[name] / 1e9:.1f} GFLOP, {1 / rates[name]:.3f} s" for name in ways)
    height, width = frames.labels.shape[-2:]
    return (f"label convolution {width}x{height}, {conv.in_channels} to {channels} channels, {cfg.optim.precision}, "
            f"{device_name(device)}: {told}; ratio {rates['looked up'] / rates['multiplied']:.2f}")


if __name__ == "__main__":
    run_main(main)
