"""The exported generator: the same videos, from a machine that knows nothing of training."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from tests.conftest import ROOT
from vid2vid_dist.cli import export as export_command
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.export import export
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.training.pretrain import find_weights, load_pretrained
from vid2vid_dist.version import code_version

MakeRun = Callable[..., Path]

# What a machine that only generates need not have: training, its launcher, its data format, its monitor.
ABSENT = ("deepspeed", "torch.distributed.run", "torch.distributed.elastic", "webdataset", "tensorboard", "rich",
          "pynvml", "vid2vid_dist.training")
WITHOUT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if any(name == absent or name.startswith(absent + ".") for absent in {ABSENT!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def generate_without(*arguments: object) -> subprocess.CompletedProcess:
    """launch/generate.py where the packages of training cannot be imported."""
    command = [sys.executable, "-c", WITHOUT, str(ROOT / "launch/generate.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_an_export_generates_the_same_frames_without_the_packages_of_training(
        cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(cfg, ema=True)
    export(load_generator(run), tmp_path / "passed_on")
    arguments = ("--videos", "park", "--how-many", 2, "--device", "cpu")
    for source, out in ((run, "a"), (tmp_path / "passed_on", "b")):
        done = generate_without(source, *arguments, "--out", tmp_path / out)
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "a/park/frames").iterdir())
    assert len(names) == 2
    for name in names:
        assert (tmp_path / "a/park/frames" / name).read_bytes() == (tmp_path / "b/park/frames" / name).read_bytes()


def test_what_is_written(cfg: Config, make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                         monkeypatch: pytest.MonkeyPatch) -> None:
    run, out = make_run(cfg, ema=True), tmp_path / "below/out"
    for arguments, kind, file in (([], "averaged", "generator_ema"), (["--raw-weights"], "trained", "generator")):
        monkeypatch.setattr("sys.argv", ["export.py", str(run), str(out), *arguments])
        with pytest.raises(SystemExit) as ended:
            run_main(export_command.main)
        assert ended.value.code == 0
        assert f"{kind} weights of step_00000100" in capsys.readouterr().out
        assert sorted(path.name for path in out.iterdir()) == [
            "config.yaml", "export.json", "generator.safetensors", "manifest.json"]
        wanted = load_file(run / f"checkpoints/step_00000100/{file}.safetensors")
        found = load_file(out / "generator.safetensors")
        assert wanted.keys() == found.keys()
        assert all(torch.equal(wanted[name], found[name]) for name in wanted)
        source = json.loads((out / "export.json").read_text())
        assert (source["weights"], source["number_format"]) == (kind, "float32")
        assert source.items() >= code_version().items()
        assert load_generator(out).config == cfg


def test_an_export_is_a_starting_point(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    export(load_generator(make_run(cfg)), tmp_path / "out")
    report = load_pretrained(find_weights(str(tmp_path / "out")), "generator", Generator(cfg))
    assert report.loaded
    assert not report.fresh


def test_narrow_weights_are_widened_and_it_is_said(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(cfg)
    file = run / "checkpoints/step_00000100/generator.safetensors"
    narrow = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor
              for name, tensor in load(file.read_bytes()).items()}  # read, since the file is written over
    save_file(narrow, file)
    exported = export(load_generator(run), tmp_path / "out")
    assert exported.rounded
    for name, tensor in load_file(tmp_path / "out/generator.safetensors").items():
        assert tensor.dtype in (torch.float32, torch.int64)
        assert torch.equal(tensor, narrow[name].to(tensor.dtype))
    assert "bfloat16" in json.loads((tmp_path / "out/export.json").read_text())["number_format"]


def test_a_folder_of_something_else_is_left_alone(cfg: Config, make_run: MakeRun, tmp_path: Path) -> None:
    loaded = load_generator(make_run(cfg))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").touch()
    with pytest.raises(UserError, match="out exists and is no export"):
        export(loaded, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match=r"cannot write /proc/x/out"):
        export(loaded, Path("/proc/x/out"))
