"""A short street to train on, and the smallest networks that use every part of a step."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

SMALL = [
    "data.loadSize=64", "data.workers=0", "generator.ngf=4", "generator.n_blocks=2", "generator.n_blocks_local=1",
    "generator.n_downsample_G=2", "discriminator.ndf=4", "discriminator.num_D=2", "discriminator.n_scales_temporal=1",
    "loss.no_vgg=true", "run.device=cpu", "run.save_every_steps=0", "monitor.tensorboard=false",
    "monitor.pictures_every=0",
]


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training videos of 8 frames, 64x32."""
    root = tmp_path_factory.mktemp("street")
    render_toy_street(root / "raw", ToyOptions(n_train=3, n_test=1, n_frames=8, width=64, height=32))
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35))
    return root / "shards"


@pytest.fixture
def configure(shards: Path, tmp_path: Path) -> Callable[..., Config]:
    """A small configuration on the plain backend, with overrides; runs lie in the test's own folder."""
    def make(*overrides: str) -> Config:
        where = [f"data.shards={shards}", f"run.root={tmp_path}", "optim.backend=plain"]
        return load_config(None, [*SMALL, *where, *overrides])
    return make


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Iterator[Grid]:
    """This process as the only rank."""
    monkeypatch.setenv("LOCAL_RANK", "0")  # `open_grid` sets it: this puts it back
    monkeypatch.delenv("RANK", raising=False)
    yield open_grid("cpu")
    dist.destroy_process_group()
