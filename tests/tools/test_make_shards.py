"""The command lines that render the toy street and pack shards."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vid2vid_dist.cli import shards, toy
from vid2vid_dist.cli.entry import run_main


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
    assert run(monkeypatch, toy, "raw", *size) == 0
    assert capsys.readouterr().out == "raw: rendered 1 + 1 videos of 2 frames\n"
    assert run(monkeypatch, shards, "raw", "out", "--label-nc", 35) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["out/train", "out/test"]
    assert run(monkeypatch, shards, "raw", "out", "--label-nc", 35) == 0
    assert capsys.readouterr().out.splitlines() == ["out/train: up to date", "out/test: up to date"]


def test_error_is_one_line_and_status_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for modality in ("A", "B"):
        (folder / f"raw/train_{modality}/one").mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(folder / f"raw/train_{modality}/one/x.png")
    assert run(monkeypatch, shards, "raw", "out") == 2
    words = "raw/train_A/one/x.png: image mode RGBA, expected one channel of label ids, or RGB; convert the file"
    assert capsys.readouterr().err == f"error: {words}\n"
    assert not (folder / "out/train/index.json").exists()
    assert run(monkeypatch, shards, "raw") == 2
    assert "the folder to write is missing" in capsys.readouterr().err
    assert run(monkeypatch, shards, "raw", "out", "--size", 8) == 2
    assert "--size 8 is out of range 32..16384" in capsys.readouterr().err
    assert run(monkeypatch, shards, "raw", "out", "--label-nc=-1") == 2
    assert "--label-nc: -1 is no number from 0 on" in capsys.readouterr().err
    assert run(monkeypatch, toy, "raw", "--n-test", 0) == 2
    assert "--n-test: 0 is no number above 0" in capsys.readouterr().err


def picture(path: Path, width: int = 8, label: int = 3) -> None:
    """A label map below *_A, a colour picture below *_B."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.full((8, width), label, np.uint8)
    Image.fromarray(ids if path.parts[-3].endswith("_A") else ids[..., None].repeat(3, axis=2)).save(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda raw: (raw / "train_B/b/2.png").unlink(), "raw/train_A/b/2.png has no partner in raw/train_B/b, where"),
        (lambda raw: shutil.rmtree(raw / "train_B/b"), "raw/train_A/b has no partner: raw/train_B has no folder"),
        (lambda raw: shutil.rmtree(raw / "train_B"), "raw/train_B: no images found; put the frames of each video"),
        (lambda raw: picture(raw / "train_A/b/1.png", label=35), "raw/train_A/b/1.png: label id 35 is not below"),
        (
            lambda raw: [picture(raw / f"train_{m}/b/1.png", width=16) for m in "AB"],
            "raw/train_A/b/1.png: size 16x8 differs from the first frame of its video (8x8)",
        ),
        (
            lambda raw: picture(raw / "train_B/b/1.png", width=16),
            "raw/train_B/b/1.png: size 16x8 differs from the frame's other files (8x8)",
        ),
        (lambda raw: (raw / "train_B/b/1.png").write_bytes(b"no"), "raw/train_B/b/1.png: unreadable image"),
        (
            lambda raw: os.truncate(raw / "train_A/b/1.png", (raw / "train_A/b/1.png").stat().st_size // 2),
            "raw/train_A/b/1.png: unreadable image",
        ),
    ],
)
def test_bad_video_is_named_and_nothing_is_packed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    words: str,
) -> None:
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png", "b/2.png"):
        for modality in "AB":
            picture(folder / f"raw/train_{modality}" / name)
    spoil(Path("raw"))
    assert run(monkeypatch, shards, "raw", "out", "--label-nc", 35) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {words}")
    assert told.count("\n") == 1
    assert not list(folder.glob("out/*/index.json"))  # tars that were finished stay, to go on from
