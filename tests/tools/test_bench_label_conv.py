"""The benchmark of the label convolution."""

from pathlib import Path

from tools.bench_label_conv import compare
from tools.bench_step import configured
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street


def test_figures_of_a_small_convolution(tmp_path: Path) -> None:
    render_toy_street(tmp_path / "raw", ToyOptions(n_train=1, n_test=1, n_frames=5, width=64, height=32))
    make_shards(tmp_path / "raw", tmp_path / "shards", PackOptions(label_nc=35))
    line = compare(configured(512, 8, [f"data.shards={tmp_path / 'shards'}", "data.loadSize=64", "run.device=cpu"]))
    # Forward and the gradient of the kernel, 2 FLOP each per tap, channel in, channel out and pixel.
    both_ways = 2 * 2 * 49 * 8 * 64 * 32 / 1e9
    assert f"multiplied {108 * both_ways:.1f} GFLOP" in line
    assert f"looked up {3 * both_ways:.1f} GFLOP" in line
