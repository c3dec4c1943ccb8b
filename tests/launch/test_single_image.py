"""Single-image generators train as recipes by the launcher, and a video begins with what they make."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.inference.conftest import write_run
from tests.torchrun import torchrun
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.toy_set import ToyOptions
from vid2vid_dist.data.toy_street import render_toy_street
from vid2vid_dist.engine.pipeline import choose_placement
from vid2vid_dist.errors import UserError

FOLDER = ROOT / "configs/single_image"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SHRUNKEN = [
    "data.loadSize=64", "generator.ngf=4", "generator.n_blocks=2", "generator.n_blocks_local=1",
    "generator.n_downsample_G=2", "discriminator.ndf=4", "discriminator.num_D=2", "loss.no_vgg=true",
    "loss.vgg_weights=", "optim.lr=0.002", "schedule.n_frames_total=6", "parallel.clips_per_step=2",
    "run.max_steps=40", "run.device=cpu", "monitor.pictures_every=20", "monitor.log_every=4",
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training videos of 8 frames and a test video, 64x32."""
    root = tmp_path_factory.mktemp("street")
    render_toy_street(root / "raw", ToyOptions(n_train=4, n_test=1, n_frames=8, width=64, height=32))
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35))
    return root / "shards"


def launch(script: str, *arguments: str) -> str:
    job = subprocess.run([sys.executable, ROOT / "launch" / script, *arguments], capture_output=True, text=True,
                         timeout=240, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert job.returncode == 0, job.stderr
    return job.stdout


@pytest.mark.parametrize("recipe", RECIPES)
def test_trains_and_begins_a_video(shards: Path, tmp_path: Path, recipe: str) -> None:
    job = torchrun(2, "launch/train.py", str(FOLDER / f"{recipe}.yaml"), *SHRUNKEN, f"data.shards={shards}",
                   f"run.root={tmp_path}", "run.name=single")
    assert job.returncode == 0, job.stdout
    single = tmp_path / "single"
    lines = [json.loads(line) for line in (single / "metrics.jsonl").read_text().splitlines()]
    distances = [line["losses"]["L1"] for line in lines if "losses" in line]
    assert sum(distances[-3:]) < 0.8 * sum(distances[:3])

    video = load_config(None, [*SHRUNKEN, f"data.shards={shards}", "data.use_instance=true", "run.name=video"])
    said = launch("generate.py", str(write_run(tmp_path, video)), "--first", f"single:{single}", "--device", "cpu")
    assert "6 frames" in said
    page = next((tmp_path / "video/results").glob("*/index.html")).read_text()
    assert "by single" in page


def test_only_whole_clips_are_spread_over_ranks() -> None:
    """A frame is one task: there is nothing that two ranks could share."""
    def place(placement: str) -> object:
        cfg = load_config(FOLDER / "global.yaml", [*SHRUNKEN, f"parallel.placement={placement}"])
        return choose_placement(cfg, 2, (64, 32), 1, 1, on_gpus=False)

    assert place("auto") is None
    assert place("data_parallel") is None
    for placement in ("split:1+1", "colocated", "generator=0,others=1"):
        with pytest.raises(UserError, match=r"netG=global trains with parallel\.placement=data_parallel only"):
            place(placement)
