"""Single-image generators train as recipes by the launcher, and a video begins with what they make."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.inference.conftest import write_run
from tests.torchrun import torchrun
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.engine.plan.planner import Placed, choose_placement
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.toy.face import render_toy_faces
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

FOLDER = ROOT / "configs/single_image"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SHRUNKEN = [
    "data.loadSize=64", "generator.ngf=4", "generator.n_blocks=2", "generator.n_blocks_local=1",
    "generator.n_downsample_G=2", "discriminator.ndf=4", "discriminator.num_D=2", "loss.no_vgg=true",
    "loss.vgg_weights=", "optim.lr=0.002", "schedule.n_frames_total=6", "parallel.clips_per_step=2",
    "run.max_steps=40", "run.device=cpu", "monitor.pictures_every=20", "monitor.log_every=4",
]


def make_videos(root: Path, task: str) -> Path:
    """Shards of four training videos of 8 frames and a test video; frames are 64 wide in training."""
    options = ToyOptions(n_train=4, n_test=1, n_frames=8, width=64, height=32)
    if task == "street":
        render_toy_street(root / "raw", options)
    else:
        render_toy_faces(root / "raw", replace(options, width=96, height=72))
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35 * (task == "street"), task=task))
    return root / "shards"


def launch(*arguments: str) -> str:
    """What a script of the project says; `-m` and such come first."""
    job = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=240, cwd=ROOT,
                         env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert job.returncode == 0, job.stderr
    return job.stdout


def frames_of(run: Path, look: int) -> np.ndarray:
    files = sorted(run.glob(f"results/*/*/frames_style_{look}/*.png"))
    assert files
    return np.stack([np.asarray(Image.open(file)) for file in files]).astype(int)


@pytest.mark.parametrize("recipe", [
    recipe if recipe == "global" else pytest.param(recipe, marks=pytest.mark.long) for recipe in RECIPES])
def test_trains_and_begins_a_video(tmp_path: Path, recipe: str) -> None:
    data = load_config(FOLDER / f"{recipe}.yaml").data
    shards = make_videos(tmp_path, data.task)
    job = torchrun(2, "launch/train.py", str(FOLDER / f"{recipe}.yaml"), *SHRUNKEN, f"data.shards={shards}",
                   f"run.root={tmp_path}", "run.name=single")
    assert job.returncode == 0, job.stdout
    single = tmp_path / "single"
    lines = [json.loads(line) for line in (single / "metrics.jsonl").read_text().splitlines()]
    distances = [line["losses"]["L1"] for line in lines if "losses" in line]
    assert sum(distances[-3:]) < 0.9 * sum(distances[:3])

    inputs = [f"data.task={data.task}", f"data.label_nc={data.label_nc}", f"data.input_nc={data.input_nc}",
              f"data.use_instance={str(data.task == 'street').lower()}"]
    video = write_run(tmp_path, load_config(None, [*SHRUNKEN, f"data.shards={shards}", *inputs, "run.name=video"]))
    looks: list[str] = []
    if recipe == "features":
        assert "2 looks" in launch("-m", "tools.fit_styles", str(single), "--styles", "2", "--device", "cpu")
        looks = ["--style", "0,1"]
    said = launch("launch/generate.py", str(video), "--first", f"single:{single}", "--device", "cpu", *looks)
    assert "6 frames" in said
    page = next((tmp_path / "video/results").glob("*/index.html")).read_text()
    assert "by single" in page
    if looks:  # several faces from one sketch: at once, and as what videos begin with
        assert "7 frames" in launch("launch/generate.py", str(single), "--device", "cpu", *looks)
        for run in (single, video):
            assert np.abs(frames_of(run, 0)[0] - frames_of(run, 1)[0]).mean() > 1


def test_single_images_are_placed_like_videos() -> None:
    """Where it is left open, every rank makes images of its own."""
    def place(placement: str) -> Placed:
        cfg = load_config(FOLDER / "global.yaml", [*SHRUNKEN, f"parallel.placement={placement}"])
        return choose_placement(role_specs(cfg), 2, (64, 32), 1, 1, on_gpus=False)

    assert {place(placement).layout.n_slots for placement in ("auto", "data_parallel")} == {1}
    assert {place(placement).layout.n_slots for placement in ("split:1+1", "generator=0,others=1")} == {2}
