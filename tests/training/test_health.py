"""Figures of health: what they say, that they add up over passes, and that all of them reach the dashboard."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.torchrun import torchrun
from tests.training.conftest import SMALL
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.monitor.dashboard import LAYOUT
from vid2vid_dist.monitor.metrics import read_journal
from vid2vid_dist.scores import OFFSETS, ScoreTally, edges, spread
from vid2vid_dist.training.health import Figure, What, accuracy_of, spreads_of
from vid2vid_dist.training.trainer import Trainer

Configure = Callable[..., Config]


def outputs(*scores: list[float]) -> list[list[torch.Tensor]]:
    """Of a discriminator: a score map per scale."""
    return [[torch.tensor(of_scale)[None, None, None]] for of_scale in scores]


def test_accuracy_counts_patches_on_the_right_side_of_the_middle() -> None:
    tally = ScoreTally()
    on_real, on_fake = outputs([0.6, 0.4, 0.5], [2.5]), outputs([0.1, 0.2, 0.6, -9.0])
    tally.add(spread([on_real], "ls"), spread([on_fake], "ls"), share=0.25)
    other = outputs([1.0, 1.0])
    tally.add(spread([other], "ls"), spread([other], "ls"), share=0.75)
    taken = tally.take()
    assert taken is not None
    assert tally.take() is None
    spreads = spreads_of({Figure(What.SCORES, "image"): taken})
    assert accuracy_of(spreads) == {
        "image/real": pytest.approx(0.25 * 0.75 + 0.75), "image/fake": pytest.approx(0.25 * 0.75)}
    assert spreads["image/real"][-1] == pytest.approx(0.25 * 0.25)  # of the 2.5
    assert edges("hinge")[OFFSETS.index(0.0)] == 0.0


def test_all_charts_find_their_tags(configure: Configure, grid: Grid, tmp_path: Path) -> None:
    """On CPUs there is no GPU to read, and without placement no rank waits for messages."""
    cfg = configure("run.name=run", "run.max_steps=2", "monitor.log_every=1", "monitor.tensorboard=true",
                    "monitor.pictures_every=1", "schedule.max_frames_per_rank=3", "schedule.n_frames_total=6",
                    "optim.ema_decay=0.9")
    Trainer(cfg, grid).run()
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    tags = events.Tags()
    for category in LAYOUT.values():
        for title, (_, patterns) in category.items():
            if "GPU" not in title:
                assert any(re.match(p, tag) for p in patterns for tag in tags["scalars"]), title
    assert "custom_scalars__config__" in tags["tensors"]
    assert {"scores/image/real", "scores/temporal_0/fake"} <= set(tags["histograms"])
    assert {"sample/raw", "sample/flow", "sample/weight", "validation/fake", "validation/fake_averaged"} <= set(
        tags["images"])
    shares = {tag: events.Scalars(tag)[0].value for tag in tags["scalars"] if tag.startswith("loss_share/")}
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == {f"loss_share/{name}" for name in (
        "G_GAN", "G_GAN_Feat", "G_Warp", "F_Flow", "F_Warp", "G_T_GAN0", "G_T_GAN_Feat0")}
    assert not [e for e in read_journal(tmp_path / "run").events if e["event"].startswith("alarm")]


@pytest.mark.parametrize("ema_decay", [0, 0.9])
def test_validation_leaves_the_training_alone(configure: Configure, grid: Grid, ema_decay: float) -> None:
    """Bit by bit, the statistics of the norm layers included."""
    def weights(name: str, every: int) -> dict[str, torch.Tensor]:
        cfg = configure(f"run.name={name}", "run.max_steps=3", f"monitor.pictures_every={every}",
                        f"optim.ema_decay={ema_decay}", "schedule.max_frames_per_rank=3", "schedule.n_frames_total=6")
        trainer = Trainer(cfg, grid)
        trainer.run()
        return {f"{role}.{key}": x for role, engine in trainer.state.engines().items()
                for key, x in engine.module.state_dict().items()}
    without, with_pictures = weights("without", 0), weights("with", 1)
    assert all(x.equal(with_pictures[key]) for key, x in without.items())


@pytest.mark.long
@pytest.mark.parametrize("backend", ["plain", pytest.param("zero", marks=pytest.mark.full)])
def test_figures_do_not_depend_on_the_placement(shards: Path, tmp_path: Path, backend: str) -> None:
    """Two ranks with a role of their own each, and two with clips of their own, against one rank with both clips."""
    precision = "fp64" if backend == "plain" else "fp32"
    common = [*SMALL, f"data.shards={shards}", f"run.root={tmp_path}", "run.max_steps=3", "monitor.log_every=3",
              "schedule.n_frames_total=6", "schedule.max_frames_per_rank=3", "parallel.clips_per_step=2",
              f"optim.backend={backend}", f"optim.precision={precision}", "monitor.pictures_every=3",
              "optim.ema_decay=0.5"]
    reports, validations = {}, {}
    runs = [("one", 1, "data_parallel"), ("two", 2, "data_parallel"), ("placed", 2, "split:1+1")]
    runs += [("swapped", 2, "generator=1,others=0")] if backend == "plain" else []
    for name, ranks, placement in runs:
        result = torchrun(ranks, "launch/train.py", "configs/base.yaml", *common, f"run.name={name}",
                          f"parallel.placement={placement}")
        assert result.returncode == 0, result.stdout
        lines = list(map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines()))
        (reports[name],) = (line for line in lines if "losses" in line)
        (validations[name],) = (line["validation"] for line in lines if "validation" in line)
        assert (tmp_path / name / "web/media/validation_00000003/first.png").is_file()
    assert set(validations["one"]) == {"warp_error_fake", "warp_error_fake_averaged", "warp_error_real", "L1_fake",
                                       "L1_fake_averaged"}
    for name, *_ in runs[1:]:
        assert validations[name] == pytest.approx(validations["one"], rel=1e-3, abs=1e-3), name
        for figures in ("accuracy", "gradient_norms", "gradient_shares"):
            # In float32 Adam makes steps of rounding where gradients are nearly zero: norms come out 2 % apart.
            rel = 1e-3 if backend == "plain" else 5e-2
            assert reports[name][figures] == pytest.approx(reports["one"][figures], rel=rel, abs=2e-3), (name, figures)
    assert set(reports["one"]["gradient_shares"]) == {"image", "warp", "temporal_0"}
    assert set(reports["one"]["gradient_norms"]) == {"generator", "image", "temporal_0"}
    assert set(reports["placed"]["accuracy"]) == {
        "image/real", "image/fake", "temporal_0/real", "temporal_0/fake"}
