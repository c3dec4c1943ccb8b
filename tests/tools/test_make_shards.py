"""The command lines that render the toy street and pack shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch._cli import run_main
from tools import make_shards, make_toy_dataset


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, tool: object, *args: object) -> int:
    """The exit status of a command line."""
    monkeypatch.setattr("sys.argv", ["tool", *map(str, args)])
    with pytest.raises(SystemExit) as exit:
        run_main(tool.main)
    return exit.value.code


def test_toy_street_then_its_shards(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ("--n-train", 1, "--n-test", 1, "--n-frames", 2, "--width", 64, "--height", 32)
    assert run(monkeypatch, make_toy_dataset, "raw", *size) == 0
    assert capsys.readouterr().out == "raw: rendered 1 + 1 videos of 2 frames\n"
    assert run(monkeypatch, make_shards, "raw", "out", "--label-nc", 35) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["out/train", "out/test"]
    assert run(monkeypatch, make_shards, "raw", "out", "--label-nc", 35) == 0
    assert capsys.readouterr().out.splitlines() == ["out/train: up to date", "out/test: up to date"]


def test_error_is_one_line_and_status_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for modality in ("A", "B"):
        (folder / f"raw/train_{modality}/one").mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / f"raw/train_{modality}/one/x.png")
    assert run(monkeypatch, make_shards, "raw", "out") == 2
    words = "raw/train_B/one/x.png: image mode L, expected RGB (3 channels); convert the file"
    assert capsys.readouterr().err == f"error: {words}\n"
    assert not (folder / "out/train").exists()
    assert run(monkeypatch, make_shards, "raw") == 2
    assert "OUT is missing" in capsys.readouterr().err
    assert run(monkeypatch, make_shards, "raw", "out", "--size", 8) == 2
    assert "--size 8 is out of range 32..16384" in capsys.readouterr().err
