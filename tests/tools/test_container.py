"""The container image: its lock fits the project, its recipe is clean, and what it copies is enough."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tools.lock_requirements import LOCK, lock

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()


def test_lock_pins_every_dependency_within_its_range() -> None:
    text = LOCK.read_text()
    lines = re.findall(r"^(\S+)==(\S+) \\$", text, re.MULTILINE)
    pinned = {canonicalize_name(name): version for name, version in lines}
    assert len(re.findall(r"^    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)) == len(pinned)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for dependency in map(Requirement, project["dependencies"]):
        version = pinned[canonicalize_name(dependency.name)]
        assert dependency.specifier.contains(version), f"{dependency}: run python -m tools.lock_requirements"
    assert "+cpu" not in pinned["torch"]
    assert any(name.startswith("nvidia-nccl") for name in pinned), "the CUDA build of torch brings NCCL"
    python = re.search(r"^FROM python:(3\.\d+)\.", DOCKERFILE, re.MULTILINE)
    assert python
    assert text.startswith(f"# Python {python[1]},")


def test_lock_is_written_from_pips_report() -> None:
    def item(name: str, digest: str) -> dict:
        archive = {"hashes": {"sha256": digest}} if digest else {}
        return {"metadata": {"name": name, "version": "1.0"}, "download_info": {"archive_info": archive}}
    environment = {"python_version": "3.11", "sys_platform": "linux", "platform_machine": "x86_64"}
    text = lock({"environment": environment, "install": [item("vid2vid-dist", ""), item("b", "bb"), item("A", "aa")]})
    assert text.splitlines()[2:] == ["A==1.0 \\", "    --hash=sha256:aa", "b==1.0 \\", "    --hash=sha256:bb"]


def test_dockerfile_is_clean_and_not_run_by_root() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, "--no-color", str(ROOT / "docker/Dockerfile")], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["1000"]
    assert not re.search(r"\.pth|\.safetensors|latest", DOCKERFILE)


def test_what_is_copied_is_enough_to_start(tmp_path: Path) -> None:
    """The COPY lines and the environment of the recipe, done by hand."""
    for source, target in re.findall(r"^COPY (\S+) /opt/(\S+)$", DOCKERFILE, re.MULTILINE):
        shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
    code = tmp_path / "vid2vid_dist"
    done = subprocess.run([sys.executable, code / "launch/train.py", "--help"], capture_output=True, text=True,
                          check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(code)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Train a video generator.")
