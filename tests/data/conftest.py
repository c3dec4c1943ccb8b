"""Small raw folders and the shards packed from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.toy_set import ToyOptions
from vid2vid_dist.data.toy_street import render_toy_street

Edit = Callable[[Path], None]


@pytest.fixture(scope="session")
def toy_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy street of 3 + 1 videos, 8 frames of 64x32."""
    raw = tmp_path_factory.mktemp("toy") / "raw"
    render_toy_street(raw, ToyOptions(n_train=3, n_test=1, n_frames=8, width=64, height=32))
    return raw


@pytest.fixture(scope="session")
def toy_shards(toy_raw: Path) -> Path:
    """The shards of `toy_raw`; read only."""
    out = toy_raw.parent / "shards"
    make_shards(toy_raw, out, PackOptions(label_nc=35))
    return out


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two training videos of random frames: a of 4 and b of 6, 40x24, JPEG photographs."""
    rng = np.random.default_rng(0)
    for video, n_frames in (("a", 4), ("b", 6)):
        for i in range(n_frames):
            name = f"{video}/{video}.frame{i:03d}"
            save(tmp_path / f"raw/train_A/{name}.png", rng.integers(0, 35, (24, 40), np.uint8))
            save(tmp_path / f"raw/train_inst/{name}.png", rng.integers(0, 40000, (24, 40), np.uint16))
            save(tmp_path / f"raw/train_B/{name}.jpg", rng.integers(0, 256, (24, 40, 3), np.uint8))
    return tmp_path / "raw"


def save(path: Path, array: np.ndarray) -> None:
    """Write an image of (H, W) ids or (H, W, C) colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
