"""Small shards and run folders to generate from."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vid2vid_dist.config.load import save_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.models.generator import Generator

WIDTH, HEIGHT = 64, 32
VIDEOS = {"park": 7, "a & b": 5}


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split `test` of two small videos with labels, instances and images, and a split `blind` of labels."""
    root = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for name, n_frames in VIDEOS.items():
        for modality, shape in (("test_A", ()), ("test_inst", ()), ("test_B", (3,))):
            folder = root / "raw" / modality / name
            folder.mkdir(parents=True)
            for t in range(n_frames):
                small = rng.integers(0, 5, (4, 8, *shape), dtype=np.uint8) * (40 if shape else 1)
                big = small.repeat(8, axis=0).repeat(8, axis=1)
                Image.fromarray(np.roll(big, t, axis=1)).save(folder / f"frame{t:02d}.png")
    make_shards(root / "raw", root / "full", PackOptions())
    for modality in ("test_A", "test_inst"):
        (root / "raw_blind" / modality).parent.mkdir(exist_ok=True)
        (root / "raw" / modality).rename(root / "raw_blind" / modality)
    make_shards(root / "raw_blind", root / "blind", PackOptions())
    return root


@pytest.fixture
def cfg(shards: Path) -> Config:
    return small_config(shards)


def small_config(shards: Path) -> Config:
    """A small street model for the videos of `shards`."""
    cfg = Config()
    cfg.data.shards, cfg.data.loadSize, cfg.data.workers = str(shards / "full"), WIDTH, 0
    cfg.data.label_nc, cfg.data.use_instance = 6, True
    gen = cfg.generator
    gen.ngf, gen.n_blocks, gen.n_blocks_local, gen.n_downsample_G = 4, 2, 1, 2
    gen.fg, gen.fg_labels = True, [3]
    return cfg


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder with one checkpoint, as training leaves it; gives the run folder."""

    return partial(write_run, tmp_path)


def write_run(root: Path, cfg: Config, step: int = 100, ema: bool = False) -> Path:
    """A run folder below `root` with one checkpoint."""
    folder = root / cfg.run.name / "checkpoints" / f"step_{step:08d}"
    folder.mkdir(parents=True)
    torch.manual_seed(step)
    save_config(cfg, folder / "config.yaml")
    save_file(Generator(cfg).state_dict(), folder / "generator.safetensors")
    if ema:
        save_file(Generator(cfg).state_dict(), folder / "generator_ema.safetensors")
    (folder.parent / "latest").write_text(f"{folder.name}\n")
    return folder.parent.parent
