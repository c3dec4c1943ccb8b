"""Beside a torch that somebody else has installed, as in NVIDIA's images: pip keeps it."""

import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.package.environments import PROJECT, call, clone, closure, lend

pytestmark = pytest.mark.long


def test_the_image_keeps_its_torch(tmp_path: Path) -> None:
    """Pre-releases of the oldest torch and torchvision that are let in, named as NVIDIA names its own."""
    image = tmp_path / "image"
    venv.create(image, symlinks=True)
    packages = image / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    lend(closure(["eval"]) | {"setuptools"}, packages)
    ranges = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["train"]]
    theirs = dict(re.findall(r"^(torch|torchvision)>=([\w.]+)", "\n".join(ranges), re.MULTILINE))
    for name, oldest in theirs.items():
        release(packages, name, f"{oldest}+abc1234.nv25.1")
    command = ["-m", "pip", "--python", str(image / "bin/python"), "install", "-q", "--no-index",
               "--no-build-isolation", f"{clone(tmp_path / 'checkout')}[eval]"]
    # What it would do first: the packages are lent, and nothing may be written over them.
    call(*command, "--dry-run", "--report", str(tmp_path / "report.json"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert [item["metadata"]["name"] for item in report["install"]] == ["vid2vid-dist"]
    call(*command, "--no-deps")
    done = subprocess.run([image / "bin/vid2vid-generate", "--help"], cwd=tmp_path, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


def release(packages: Path, name: str, version: str) -> None:
    """Let a lent package be of another version, which asks for no torch in particular."""
    (lent,) = packages.glob(f"{name}-*.dist-info")
    about = packages / f"{name}-{version}.dist-info"
    shutil.copytree(lent.resolve(), about)
    lent.unlink()
    said = re.sub(r"^Version: .*$", f"Version: {version}", (about / "METADATA").read_text(), flags=re.MULTILINE)
    (about / "METADATA").write_text(re.sub(r"^Requires-Dist: torch ?[(=<>].*$", "Requires-Dist: torch", said,
                                           flags=re.MULTILINE))
