"""Shared fixtures. Golden data and example frames lie outside the project; tests that need them say so."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the test workers share the cores

import pytest
from hypothesis import settings

from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

settings.register_profile("house", deadline=None)  # shared cores: a slow example proves nothing
settings.load_profile("house")

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("GOLDEN", ROOT / "../shared/golden"))
FRAMES = Path(os.environ.get("FRAMES", ROOT / "../shared/cityscapes_example"))
# They start real jobs and take minutes each.
LONG = tuple(str(ROOT / "tests" / name) for name in (
    "launch/test_jobs", "engine/test_executor", "engine/test_equality", "slurm", "test_recipes", "test_parity",
    "launch", "tools/test_chain", "training"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no worker is left with one when the others are done."""
    items.sort(key=lambda item: next((i for i, path in enumerate(LONG) if str(item.path).startswith(path)), len(LONG)))


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
