"""Small raw folders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Edit = Callable[[Path], None]


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
