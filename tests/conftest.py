"""Shared fixtures. Golden data and example frames lie outside the project; tests that need them say so."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the test workers share the cores

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None)  # shared cores: a slow example proves nothing
settings.load_profile("house")

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("GOLDEN", ROOT / "../shared/golden"))
FRAMES = Path(os.environ.get("FRAMES", ROOT / "../shared/cityscapes_example"))


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Numbers of the original vid2vid."""
    return _folder(GOLDEN, "GOLDEN")


@pytest.fixture(scope="session")
def frames_dir() -> Path:
    """Example video frames of Cityscapes in the raw layout."""
    return _folder(FRAMES, "FRAMES")


def _folder(path: Path, variable: str) -> Path:
    if not path.is_dir():
        pytest.skip(f"no folder {path}: set {variable}")
    return path
