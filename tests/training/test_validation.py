"""Validation clips: the figures are those of `vid2vid-evaluate`, and what cannot be read does not end a run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.damage import spoil_picture
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.inference.evaluate import evaluate
from vid2vid_dist.inference.generate import GenerationOptions
from vid2vid_dist.inference.load import load_generator
from vid2vid_dist.inference.quality import Judges
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street
from vid2vid_dist.training.trainer import Trainer
from vid2vid_dist.training.validation import N_FRAMES, generate_command, open_source

Configure = Callable[..., Config]
SHORT = ("run.name=run", "run.max_steps=2", "monitor.pictures_every=2", "schedule.max_frames_per_rank=3",
         "schedule.n_frames_total=6")


@pytest.mark.parametrize("overrides", [(), ("generator.no_first_img=true",)])
def test_figures_are_those_of_the_evaluation(
        configure: Configure, grid: Grid, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    """Of the checkpoint of the same step, for the trained and for the averaged weights."""
    Trainer(configure(*SHORT, "optim.ema_decay=0.5", *overrides), grid).run()
    (record,) = read_journal(tmp_path / "run").validations
    found = record["validation"]
    for name, raw in (("fake", True), ("fake_averaged", False)):
        loaded = load_generator(tmp_path / "run", raw_weights=raw)
        options = GenerationOptions(device="cpu", how_many=N_FRAMES)
        (expected,) = evaluate([loaded], options, Judges(), tmp_path / name)
        assert found[f"L1_{name}"] == pytest.approx(expected.mean("L1"), rel=1e-4)
        assert found[f"warp_error_{name}"] == pytest.approx(expected.mean("warp error"), rel=1e-4)
        assert found["warp_error_real"] == pytest.approx(expected.mean("warp error of the real"), rel=1e-4)
    assert found["L1_fake"] != found["L1_fake_averaged"]


def test_single_images_are_validated_without_a_flow(configure: Configure, grid: Grid, tmp_path: Path) -> None:
    Trainer(configure(*SHORT, "generator.netG=global", "generator.norm=instance", "generator.n_scales_spatial=1",
                      "generator.fg=false", "generator.no_flow=true", "generator.no_first_img=true",
                      "flow.network=none", "loss.lambda_T=0", "discriminator.n_scales_temporal=0"), grid).run()
    (record,) = read_journal(tmp_path / "run").validations
    assert record["validation"].keys() == {"L1_fake"}
    assert 0 < record["validation"]["L1_fake"] < 2


def test_no_test_split(configure: Configure, shards: Path, tmp_path: Path) -> None:
    assert open_source(configure())[0].split == "test"
    shutil.copytree(shards / "train", tmp_path / "shards/train")
    source, why = open_source(configure(f"data.shards={tmp_path / 'shards'}"))
    assert source.split == "train"
    assert str(tmp_path / "shards/test") in why


def test_the_command_that_makes_videos(configure: Configure, shards: Path, tmp_path: Path) -> None:
    run = Path("runs/a")
    assert generate_command(configure(), run) == "vid2vid-generate runs/a"
    shutil.copytree(shards / "train", tmp_path / "shards/train")
    without_test = configure(f"data.shards={tmp_path / 'shards'}")
    assert generate_command(without_test, run) == "vid2vid-generate runs/a --split train"
    render_toy_street(tmp_path / "raw", ToyOptions(n_train=1, n_test=1, n_frames=4, width=64, height=32))
    shutil.rmtree(tmp_path / "raw/test_B")
    make_shards(tmp_path / "raw", tmp_path / "blind", PackOptions())
    without_frames = [f"data.shards={tmp_path / 'blind'}", "data.label_nc=35"]
    assert generate_command(configure(*without_frames), run) == "vid2vid-generate runs/a --first none"
    assert generate_command(configure(*without_frames, "generator.no_first_img=true"), run) == "vid2vid-generate runs/a"


def test_unreadable_clips_cost_the_figures_only(
        configure: Configure, grid: Grid, shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "shards")
    spoil_picture(tmp_path / "shards", video=0, split="test")
    Trainer(configure(*SHORT, f"data.shards={tmp_path / 'shards'}"), grid).run()
    journal = read_journal(tmp_path / "run")
    assert not journal.validations
    (told,) = (record["event"] for record in journal.events if "validation" in record["event"])
    assert "no validation clips: images of" in told
