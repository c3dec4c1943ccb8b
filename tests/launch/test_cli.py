"""How an entry point ends."""

from __future__ import annotations

import pytest

from launch._cli import run_main
from vid2vid_dist.errors import UserError


def end(main: object, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_:
        run_main(main)  # type: ignore[arg-type]
    return exit_.value.code, capsys.readouterr().err


def fail(error: BaseException) -> object:
    def main() -> None:
        raise error
    return main


@pytest.fixture(autouse=True)
def _outside_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)


def test_status_of_main_is_the_exit_status(capsys: pytest.CaptureFixture) -> None:
    assert end(lambda: None, capsys) == (0, "")
    assert end(lambda: 3, capsys) == (3, "")


def test_user_error_is_one_line_and_status_2(capsys: pytest.CaptureFixture) -> None:
    assert end(fail(UserError("no shards: run `make shards`")), capsys) == (
        2, "error: no shards: run `make shards`\n")


def test_a_rank_says_which_it_is(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert end(fail(UserError("bad")), capsys) == (2, "[rank 1] error: bad\n")


def test_interrupt_is_quiet(capsys: pytest.CaptureFixture) -> None:
    assert end(fail(KeyboardInterrupt()), capsys) == (130, "")


def test_our_own_mistake_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 // 0)
