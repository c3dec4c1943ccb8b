"""The planning command, as a user calls it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SMALL = ["generator.ngf=8", "generator.n_blocks=2", "loss.no_vgg=true", "discriminator.frames_per_pass=1",
         "schedule.n_generator_slots=3", "schedule.n_frames_total=3"]


def plan(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "launch/plan.py", "configs/base.yaml", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_says_everything_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "plan.svg"
    result = plan("--ranks", 4, "--lanes", 2, "--placement", "split:3+1", "--size", "128x64", "--gpu-memory", 40,
                  "--out", picture, "--text", *SMALL)
    assert result.returncode == 0, result.stderr
    said = result.stdout
    assert "128x64, 3 frames per chunk, 2 clips per step, 4 ranks" in said
    assert "split 3G+1D: 1 pipeline of 4 ranks, 2 lanes each" in said
    assert said.count("pipeline 0") == 4
    for words in ("optimiser shard", "live frames", "workspace", "busy", "bubble", "x as fast", "yes: fits into 40 GB"):
        assert words in said
    (line,) = [line for line in said.splitlines() if line.startswith("no plan of this placement takes less than ")]
    assert 0.9 < float(line.split()[-1]) <= 1.0, "a small step comes to its bound"
    assert picture.read_text().startswith("<svg")
    assert said.count(" of 4 in a pipeline: ") == 4, "every rank's program"
    assert len(re.findall(r"^  run      generator synthesis lane \d frame \d(?:  <-|$)", said, re.MULTILINE)) == 2 * 3


@pytest.mark.long
def test_clips_that_are_normalised_together_count_one_by_one() -> None:
    """Two lanes of three clips each: a step makes three times as many frames as with one clip each."""
    one, three = (plan("--ranks", 2, "--lanes", 2, "--placement", "colocated", "--size", "128x64", *SMALL,
                       f"parallel.batch_size={n}", f"parallel.clips_per_step={2 * n}").stdout for n in (1, 3))
    assert "3 frames per chunk, 2 clips per step" in one
    assert "3 frames per chunk, 6 clips per step" in three
    for said, n_frames in ((one, 6), (three, 18)):
        (line,) = [line for line in said.splitlines() if line.startswith("step ")]
        step, per_second = float(line.split()[1]) / 1e3, float(line.split()[3])
        assert per_second == pytest.approx(n_frames / step, rel=0.02)


def test_no_says_what_to_change(tmp_path: Path) -> None:
    result = plan("--ranks", 2, "--placement", "auto", "--size", "128x64", "--gpu-memory", 0.01, *SMALL)
    assert result.returncode == 0, result.stderr
    assert "nothing fits" in result.stdout
    assert "no: " in result.stdout
    assert "do not fit into" in result.stdout
    assert ": try " in result.stdout


@pytest.mark.long
def test_measured_times_are_taken(tmp_path: Path) -> None:
    times = tmp_path / "times.json"
    times.write_text(json.dumps({"generator/synthesis/0": 100.0}))
    result = plan("--ranks", 2, "--lanes", 1, "--placement", "colocated", "--size", "128x64", "--costs", times, *SMALL)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("step ")]
    assert float(line.split()[1]) >= 3 * 100e3


@pytest.mark.parametrize(("recipe", "size"), [("face/512", "512x512"), ("pose/512", "448x512")])
def test_recipe_is_planned_before_there_is_data(recipe: str, size: str, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "launch/plan.py", recipe, "--ranks", "1", "--frames", "1", "--placement",
               "colocated"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0].endswith("planned for videos of 1280x720 (parallel.source_size)")
    assert result.stdout.splitlines()[1].startswith(f"{size}, 1 frames per chunk")


@pytest.mark.parametrize(("arguments", "says"), [
    (["--ranks", 4, "--placement", "split:9+1", "--size", "128x64"], "placement split:9+1 needs 10 ranks"),
    (["--ranks", 4, "--size", "128x64", "data.task=face"], "data.task=face draws 15 channels here: set"),
    pytest.param(["--ranks", 4, "--size", "100x64"], "frames of 100x64: both sides must be multiples of 8",
                 marks=pytest.mark.long),
    pytest.param(["--ranks", 4, "data.shards=/nowhere"], "no shards at /nowhere/train", marks=pytest.mark.long),
])
def test_mistakes_are_one_line(arguments: list, says: str) -> None:
    result = plan(*arguments, *SMALL)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {says}"), result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.long
@pytest.mark.parametrize("arguments", [["--ranks", 0], ["--ranks", 2, "--size", "128"], ["--ranks", 2, "--lanes", "x"]])
def test_bad_arguments_end_with_the_usage(arguments: list) -> None:
    result = plan(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: plan.py")
