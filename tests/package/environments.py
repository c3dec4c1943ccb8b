"""Distributions of the checkout, built without network, and environments that hold nothing of it."""

import os
import re
import site
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable, Sequence
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def clone(folder: Path) -> Path:
    """A clone of the last commit with today's files: building writes into the source folder."""
    subprocess.run(["git", "clone", "-q", "--depth=1", ROOT.as_uri(), folder], check=True)
    subprocess.run(["git", "rm", "-qr", "--cached", "."], cwd=folder, check=True)
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True,
                           text=True).stdout.splitlines()
    for path in [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]:
        path.unlink()
    for name in filter(lambda name: (ROOT / name).is_file(), files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(["git", "reset", "-q"], cwd=folder, check=True)
    return folder


def build(source: Path, out: Path) -> None:
    call("-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(out), str(source))


def call(*arguments: str, cwd: Path | None = None) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Environment:
    """A virtual environment with the wheel and the packages of some extras, which are lent by this one."""

    def __init__(self, folder: Path, wheel: Path, extras: Sequence[str]) -> None:
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        call("-m", "pip", "--python", str(self.bin / "python"), "install", "-q", "--no-deps", "--no-index", str(wheel))
        self.own = sorted(path.name for path in packages.iterdir())
        lend(closure(extras), packages)

    def run(self, *command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command in `cwd`; Python and scripts are those of the environment."""
        known = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        known |= {"PATH": f"{self.bin}:{known['PATH']}", "OMP_NUM_THREADS": "1", **environment}
        return subprocess.run([self.bin / command[0], *command[1:]], cwd=cwd, env=known, capture_output=True, text=True,
                              check=False)


def closure(extras: Sequence[str]) -> set[str]:
    """The names of everything that pip would install for the project with these extras."""
    todo = [(requirement, "") for requirement in PROJECT["dependencies"]]
    todo += [(requirement, "") for extra in extras for requirement in PROJECT["optional-dependencies"][extra]]
    found: set[str] = set()
    while todo:
        requirement, extra = Requirement(todo[0][0]), todo.pop(0)[1]
        if requirement.name == PROJECT["name"]:
            todo += [(text, "") for each in requirement.extras
                     for text in PROJECT["optional-dependencies"][each]]
        elif (not requirement.marker or requirement.marker.evaluate({"extra": extra})) and (
                name := re.sub(r"[-_.]+", "-", requirement.name).lower()) not in found:
            found.add(name)
            needed = distribution(name).requires or []
            todo += [(text, each) for text in needed for each in (requirement.extras or {""})]
    return found


def lend(names: set[str], packages: Path) -> None:
    """Links to the files of installed distributions, and to nothing else."""
    there = Path(site.getsitepackages()[0])
    for name in names:
        for file in distribution(name).files or []:
            top = file.parts[0]
            if top != ".." and not (packages / top).exists() and (there / top).exists():
                (packages / top).symlink_to(there / top)


MakeEnvironment = Callable[..., Environment]
