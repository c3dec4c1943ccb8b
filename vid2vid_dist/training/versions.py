"""The software that a run's numbers depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "torchvision", "numpy", "deepspeed", "webdataset", "safetensors", "pillow",
            "opencv-python-headless")


def versions() -> dict[str, str]:
    """Python and the packages by name; "missing" for one that is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
