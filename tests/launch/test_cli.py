"""How an entry point ends, alone and under torchrun."""

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import pytest

from tests.conftest import ROOT
from vid2vid_dist.cli import entry
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.errors import LostRankError, UserError


def end(main: Callable[[], int | None], capsys: pytest.CaptureFixture) -> tuple[object, str]:
    with pytest.raises(SystemExit) as exit_:
        run_main(main)
    return exit_.value.code, capsys.readouterr().err


def fail(error: BaseException) -> Callable[[], NoReturn]:
    def main() -> NoReturn:
        raise error
    return main


def test_status_of_main_is_the_exit_status(capsys: pytest.CaptureFixture) -> None:
    assert end(lambda: None, capsys) == (0, "")
    assert end(lambda: 3, capsys) == (3, "")


def test_user_error_is_one_line_and_status_2(capsys: pytest.CaptureFixture) -> None:
    assert end(fail(UserError("no shards: run `make shards`")), capsys) == (
        2, "error: no shards: run `make shards`\n")


def test_interrupt_is_quiet(capsys: pytest.CaptureFixture) -> None:
    assert end(fail(KeyboardInterrupt()), capsys) == (130, "")


@pytest.mark.fault(
    "Files",
    "the program has a fault",
    "one line; the traceback is in `errors/` of the run's folder",
    "steps since the last checkpoint")
def test_our_own_mistake_is_one_line_and_a_file(
        capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    status, said = end(lambda: 1 // 0, capsys)
    assert status == 1
    assert said.startswith("error: ZeroDivisionError: integer division or modulo by zero (test_cli.py:")
    assert said.count("\n") == 1
    (log,) = tmp_path.iterdir()
    assert f"traceback: {log}\n" in said
    assert "1 // 0" in log.read_text()


@pytest.mark.parametrize(("call", "words"), [
    (lambda: Path("/proc/self/nothing/x").write_text(""), "FileNotFoundError"),
    (lambda: Path("/dev/full").write_text("x" * 10**6), "error: No space left on device: free some space"),
    (lambda: bytearray(2**60), "error: out of memory (MemoryError): raise `ulimit -v`"),
    (lambda: Path("/dev/null/out").mkdir(), "error: /dev/null/out: Not a directory: something else is there: choose"),
    (lambda: Path("x" * 256).touch(), "File name too long: choose shorter names"),
])
def test_what_the_system_refuses_is_told_with_a_fix(
        call: Callable[[], object], words: str, capsys: pytest.CaptureFixture) -> None:
    status, said = end(lambda: bool(call()) or None, capsys)
    assert status == 1
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("module", "words"), [
    ("cv2", "pip install 'vid2vid-dist[train]'"), ("safetensors.torch", "pip install 'vid2vid-dist'")])
def test_a_package_that_is_not_there(
        module: str, words: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    status, said = end(lambda: bool(import_module(module)), capsys)
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith(f"error: this needs the package {module.split('.')[0]} ")
    assert said.endswith(f"{words}\n")


def test_a_rank_that_was_left_says_so_in_one_line(
        capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "PATIENCE", 0)
    lost = LostRankError("rank 1: step 3: Connection closed by peer")
    assert end(fail(lost), capsys) == (1, f"error: another rank has left or does not answer: {lost}\n")


SCRIPT = """
import os, sys
sys.path.insert(0, {root!r})
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.errors import UserError

def main():
    if os.environ["RANK"] in {ranks!r}:
        raise UserError("bad key, write good key")

run_main(main)
"""


@pytest.mark.parametrize(("ranks", "printed"), [("01", "error: bad"), ("1", "[rank 1] error: bad")])
def test_under_torchrun_the_message_comes_once_and_again_in_its_report(
        tmp_path: Path, ranks: str, printed: str) -> None:
    script = tmp_path / "entry.py"
    script.write_text(SCRIPT.format(root=str(ROOT), ranks=ranks))
    torchrun = Path(sys.executable).parent / "torchrun"
    result = subprocess.run([torchrun, "--standalone", "--nproc_per_node", "2", script],
                            capture_output=True, text=True, check=False)
    lines = [line for line in result.stderr.splitlines() if "bad key" in line]
    assert result.returncode != 0
    assert [line for line in lines if "traceback :" not in line] == [f"{printed} key, write good key"]
    assert [line for line in lines if "traceback :" in line] == [f"  traceback : {printed} key, write good key"]
    assert "entry.py\", line" not in result.stderr
