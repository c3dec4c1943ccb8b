"""The attacks themselves: what a reader must not do is noticed."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile import attack
from tests.hostile.attack import Escape, Hang, watched


def test_what_is_allowed(tmp_path: Path) -> None:
    with watched(tmp_path):
        (tmp_path / "a/b").mkdir(parents=True)
        (tmp_path / "a/b/c").write_text("x")
        (tmp_path / "a/b/c").rename(tmp_path / "a/d")
        shutil.rmtree(tmp_path / "a")
        Path("/etc/passwd").read_bytes()


@pytest.mark.parametrize("escape", [
    lambda outside: (outside / "x").write_text("x"),
    lambda outside: (outside / "inside/../x").write_bytes(b"x"),
    lambda outside: (outside / "new").mkdir(),
    lambda outside: shutil.rmtree(outside / "full"),
    lambda outside: os.rename(outside / "inside", outside / "other"),
    lambda outside: (outside / "link").symlink_to("/"),
    lambda outside: os.system("true"),
    lambda outside: subprocess.run(["true"], check=False),
])
def test_an_escape_is_noticed(escape: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(Escape), watched(tmp_path / "inside"):
        escape(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "inside"]
    assert (tmp_path / "full/file").exists()


def test_a_hang_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack, "SECONDS", 0.1)
    with pytest.raises(Hang), watched(tmp_path):
        time.sleep(60)
