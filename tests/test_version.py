"""Which code it is: told by git's own files, with git, without it, and from a copy."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vid2vid_dist import __version__
from vid2vid_dist.version import COMMIT, code_version


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a repository of one commit."""
    package = tmp_path / "checkout/vid2vid_dist"
    package.mkdir(parents=True)
    (package / "code.py").write_text("one = 1\n")
    git(package, "init", "-q")
    git(package, "add", ".")
    git(package, "-c", "user.name=n", "-c", "user.email=e@x", "commit", "-qm", "one")
    return package


def git(package: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=package.parent, check=True, capture_output=True, text=True).stdout


def head(package: Path) -> str:
    return git(package, "rev-parse", "HEAD").strip()


def test_commit_and_changes(package: Path) -> None:
    assert code_version(package) == {"version": __version__, "commit": head(package), "changes": "none"}
    (package / "code.py").write_text("two = 2\n")
    assert code_version(package)["changes"] == "uncommitted"


def test_packed_detached_and_in_a_worktree(package: Path, tmp_path: Path) -> None:
    git(package, "pack-refs", "--all")
    assert code_version(package)["commit"] == head(package)
    git(package, "worktree", "add", "-q", str(tmp_path / "other"), "-b", "side")
    other = tmp_path / "other/vid2vid_dist"
    assert code_version(other) == {"version": __version__, "commit": head(other), "changes": "none"}
    git(package, "checkout", "-q", "--detach")
    assert code_version(package)["commit"] == head(package)


def test_without_git(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = head(package)
    monkeypatch.setenv("PATH", "/nowhere")
    assert code_version(package) == {"version": __version__, "commit": commit, "changes": "unknown"}


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user: needs root")
def test_of_another_owner(package: Path) -> None:
    commit = head(package)
    for path in [package.parent, *package.parent.rglob("*")]:
        os.chown(path, 12345, 12345)
    with pytest.raises(subprocess.CalledProcessError):
        head(package)
    assert code_version(package) == {"version": __version__, "commit": commit, "changes": "none"}


def test_copy_carries_its_commit_or_is_unknown(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(package, copy)
    assert code_version(copy) == {"version": __version__, "commit": "unknown", "changes": "unknown"}
    (copy / COMMIT).write_text(json.dumps(code_version(package)))
    assert code_version(copy) == code_version(package)
