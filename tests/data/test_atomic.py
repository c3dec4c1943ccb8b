"""One process at a time works on a folder; who fails leaves nothing behind."""

import os
import time
from pathlib import Path

import pytest

from vid2vid_dist.data.atomic import locked


def refused(folder: Path, made: Path) -> None:
    """A command that makes a folder, and is refused then."""
    with locked(folder):
        made.mkdir(parents=True, exist_ok=True)
        raise OSError("refused")


@pytest.mark.fault(
    "Files",
    "a command is refused",
    "its results folder is not made",
    "nothing")
@pytest.mark.parametrize("made", ["", "records"])
def test_who_fails_with_nothing_made_leaves_nothing(tmp_path: Path, made: str) -> None:
    with pytest.raises(OSError, match="refused"):
        refused(tmp_path / "a/b/out", tmp_path / "a/b/out" / made)
    assert list(tmp_path.iterdir()) == []


def test_who_fails_leaves_what_was_made_and_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "made"):
        with pytest.raises(OSError, match="refused"):
            refused(tmp_path / name, tmp_path / "made/video")
    assert (tmp_path / "there").is_dir()
    assert (tmp_path / "made/video").is_dir()


def test_who_waited_for_one_that_failed_is_alone_as_well(tmp_path: Path) -> None:
    """Its lock has been taken away: a third one would not see it. Real processes, each alone for a moment."""
    out, log = tmp_path / "out", tmp_path / "log"
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                with locked(out):
                    with log.open("a") as file:
                        file.write("in ")
                        file.flush()
                        time.sleep(0.1)
                        file.write("out ")
                    raise OSError("refused")
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    assert log.read_text().split() == ["in", "out"] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_second_command_waits_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two generations into one results folder, two packings of one set."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(tmp_path / "out"):
            os.write(writer, b"in")
            time.sleep(0.5)
            (tmp_path / "out").mkdir()
        os._exit(0)
    os.read(reader, 2)
    with locked(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()
    os.waitpid(child, 0)
    assert "is in use by another command: waiting for its end" in caplog.text
