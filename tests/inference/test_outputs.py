"""Where commands write: two of them into one folder, and places that take nothing."""

import fcntl
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.schema import Config
from vid2vid_dist.inference.evaluate import evaluate
from vid2vid_dist.inference.export import export
from vid2vid_dist.inference.generate import GenerationOptions, generate
from vid2vid_dist.inference.load import LoadedGenerator, load_generator
from vid2vid_dist.inference.quality import Judges, WeightFiles

OPTIONS = GenerationOptions(device="cpu", videos=("a & b",), writers=0)


@pytest.mark.fault(
    "Disks",
    "two commands into one results folder",
    "the second waits for the first, and says so",
    "nothing")
@pytest.mark.parametrize("write", [
    lambda loaded, out: generate(loaded, OPTIONS, out),
    lambda loaded, out: evaluate([loaded], OPTIONS, Judges.load(WeightFiles(), 0), out),
    export,
], ids=["generate", "evaluate", "export"])
def test_two_commands_into_one_folder(
        cfg: Config, make_run: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture,
        write: Callable[[LoadedGenerator, Path], object]) -> None:
    """The second one waits, and says so."""
    loaded, out = load_generator(make_run(cfg)), tmp_path / "out"
    with out.with_name(".out.lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = threading.Thread(target=write, args=(loaded, out))
        second.start()
        second.join(0.3)
        assert not out.exists()
    second.join(60)
    assert any(out.iterdir())
    assert "out is in use by another command: waiting for its end" in caplog.text


@pytest.mark.fault(
    "Disks",
    "a file lies where a command is to make its folder",
    "one line, before the work",
    "nothing")
@pytest.mark.parametrize("command", [
    "generate {run} --device cpu --out", "evaluate {run} --device cpu --out", "export {run}", "export_vid2vid {run}",
    "shards {raw}", "toy", "status {run} --snapshot"])
def test_a_file_where_a_folder_is_to_be(
        cfg: Config, make_run: Callable[..., Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], command: str) -> None:
    """One line, before the work."""
    (tmp_path / "file").touch()
    name, *arguments = command.format(run=make_run(cfg), raw=shards / "raw_blind").split()
    for out in ("file", "file/out"):
        monkeypatch.setattr("sys.argv", [name, *arguments, str(tmp_path / out)])
        with pytest.raises(SystemExit) as ended:
            run_main(import_module(f"vid2vid_dist.cli.{name}").main)
        said = capsys.readouterr().err
        assert ended.value.code in (1, 2)
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert "fault of the program" not in said
    assert (tmp_path / "file").read_bytes() == b""
