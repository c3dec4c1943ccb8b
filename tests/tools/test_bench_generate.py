"""The benchmark of generation compares what makes the same frames."""

import torch

from tools.bench_generate import PlainLoop, measure, some_frames, switches
from vid2vid_dist.config.schema import Config
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.models.generator import Generator

CPU, SIZE = torch.device("cpu"), (64, 32)


def small() -> Config:
    cfg = Config()
    cfg.data.use_instance, cfg.data.loadSize = True, SIZE[0]
    gen = cfg.generator
    gen.ngf, gen.n_blocks, gen.n_downsample_G, gen.fg = 4, 2, 2, True
    return cfg


def test_both_loops_make_the_same_frames() -> None:
    cfg = small()
    for with_foreground in (True, False):
        frames = some_frames(cfg, SIZE, with_foreground)
        assert bool((frames.labels == 26).any()) is with_foreground
        plain = PlainLoop(cfg, frames, CPU)
        torch.manual_seed(0)
        ours = VideoGenerator(Generator(cfg), cfg, CPU, torch.float32)
        ours.start([frames.part(slice(0, 2))], torch.zeros(1, 2, 3, SIZE[1], SIZE[0]))
        assert torch.allclose(plain(), ours.step([frames.part(slice(2, None))]).fake, atol=1e-6)


def test_every_switch_is_measured() -> None:
    found = measure(switches(small(), SIZE, CPU, compiled=False), CPU)
    assert list(found) == ["plain loop: all branches, all frames encoded", "ours", "ours, no foreground in the frame",
                           "ours, bf16", "ours, 4 videos side by side"]
    assert min(found.values()) > 0
