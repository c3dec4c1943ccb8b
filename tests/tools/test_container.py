"""The container image: its lock fits the project, its recipe is clean, and what it copies is enough."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from vid2vid_dist.config.load import load_config

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
LOCK = ROOT / "docker/requirements.lock"


def test_lock_pins_every_dependency_within_its_range() -> None:
    text = LOCK.read_text()
    lines = re.findall(r"^(\S+)==(\S+) \\$", text, re.MULTILINE)
    pinned = {canonicalize_name(name): version for name, version in lines}
    without_hash = re.findall(r"== *\S+ \\\n(?!    --hash=sha256:[0-9a-f]{64}\b)", text)
    assert pinned
    assert not without_hash
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = map(Requirement, [*project["dependencies"], *extras["train"], *extras["eval"]])
    for dependency in (each for each in needed if each.name != project["name"]):
        version = pinned[canonicalize_name(dependency.name)]
        assert dependency.specifier.contains(version), f"{dependency}: run make lock"
    assert "+cpu" not in pinned["torch"]
    assert any(name.startswith("nvidia-nccl") for name in pinned), "the CUDA build of torch brings NCCL"
    python = re.search(r"^FROM python:(3\.\d+)\.", DOCKERFILE, re.MULTILINE)
    assert python
    assert f"--python-version {python[1]} " in (ROOT / "Makefile").read_text()
    tested = [Requirement(line) for line in (ROOT / "docker/tested.txt").read_text().splitlines() if line[0] != "#"]
    assert {each.name: str(each.specifier) for each in tested} == {
        name: f"=={pinned[name]}" for name in ("torch", "torchvision")}


def test_dockerfile_is_clean_and_not_run_by_root() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    files = [str(ROOT / "docker" / name) for name in ("Dockerfile", "ngc.Dockerfile")]
    done = subprocess.run([hadolint, "--no-color", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["1000"]
    assert not re.search(r"\.pth|\.safetensors|latest", DOCKERFILE)


@pytest.mark.parametrize("name", ["Dockerfile", "ngc.Dockerfile"])
def test_what_is_copied_is_let_through(name: str) -> None:
    """.dockerignore admits by name."""
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for line in re.findall(r"^COPY (.+) \S+$", (ROOT / "docker" / name).read_text(), re.MULTILINE)
              for source in line.split()}
    assert copied <= admitted
    assert all((ROOT / source).exists() for source in copied)


def test_what_is_copied_is_enough_to_start(tmp_path: Path) -> None:
    """The COPY lines, the note of the commit and the environment of the recipe, done by hand."""
    for source, target in re.findall(r"^COPY (\S+) /opt/(\S+)$", DOCKERFILE, re.MULTILINE):
        shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
    code, environment = tmp_path / "vid2vid_dist", {**os.environ, "PYTHONPATH": str(tmp_path / "vid2vid_dist")}
    note = re.search(r"^ARG CODE_VERSION='(.*)'$", DOCKERFILE, re.MULTILINE)
    assert note
    (code / "vid2vid_dist/commit.json").write_text(note[1])
    for command, said in ((["vid2vid_dist"], "usage: "), (["vid2vid_dist.train", "--help"], "Train a video generator."),
                          (["vid2vid_dist.version"], '{"version": "')):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False,
                              cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(said)
    assert "unknown" in done.stdout


def test_cluster_files_train_what_there_is() -> None:
    """The commands of Kubernetes and SkyPilot name a recipe and settings that fit their sixteen GPUs."""
    job = yaml.safe_load((ROOT / "docker/pytorchjob.yaml").read_text())
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    (container,) = worker["template"]["spec"]["containers"]
    task = yaml.safe_load((ROOT / "docker/skypilot.yaml").read_text())
    n_ranks = {worker["replicas"] * int(job["spec"]["nprocPerNode"]),
               task["num_nodes"] * int(task["resources"]["accelerators"].split(":")[1])}
    assert n_ranks == {16}
    for words in ([*container["command"], *container["args"]], task["run"].split()):
        recipe, *overrides = words[words.index("vid2vid_dist.train") + 1:]
        parallel = load_config(recipe, overrides).parallel
        assert parallel.placement == "colocated"
        assert 8 * parallel.clips_per_step == 16
