"""A chain of three tiny stages by one command: what each hands on, and what that is worth."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch.distributed as dist
from safetensors.torch import load_file

from tests.conftest import ROOT
from tools.chain import Stage, read_chain, run_chain
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street
from vid2vid_dist.training.trainer import Trainer

COMMON = """overrides:
  - data.workers=0
  - data.use_instance=true
  - generator.ngf=8
  - generator.n_blocks=2
  - generator.n_blocks_local=1
  - generator.n_downsample_G=2
  - discriminator.ndf=4
  - discriminator.num_D=1
  - discriminator.n_scales_temporal=1
  - loss.no_vgg=true
  - optim.backend=plain
  - optim.lr=0.001
  - schedule.n_frames_total=3
  - schedule.max_frames_per_rank=3
  - schedule.niter_step=99
  - run.device=cpu
  - run.save_every_steps=3
  - run.keep_last=99
  - monitor.tensorboard=false
  - monitor.pictures_every=0
  - monitor.log_every=1
"""
STAGES = """stages:
  - config: any.yaml
    overrides: [run.name=first, data.loadSize=16, schedule.niter=7, schedule.niter_decay=1]
  - config: any.yaml
    overrides: [run.name=second, data.loadSize=32, generator.n_scales_spatial=2, schedule.niter=2,
                schedule.niter_decay=3, schedule.niter_fix_global=2]
  - config: any.yaml
    overrides: [run.name=third, data.loadSize=64, generator.n_scales_spatial=3, schedule.niter=1,
                schedule.niter_decay=1]
"""
# Comparable between runs: no trained network takes part. F_Warp and F_Flow are left out, for flows are small at first
# whatever a stage starts from: they differ by 1 % there, and which way depends on rounding.
UNTRAINED = ("L1", "G_Warp")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> list[Stage]:
    """Trained by one command, after its first stage had been interrupted."""
    root = tmp_path_factory.mktemp("chain")
    render_toy_street(root / "raw", ToyOptions(n_train=3, n_test=1, n_frames=8, width=64, height=32))
    make_shards(root / "raw", root / "shards", PackOptions(label_nc=35))
    (root / "any.yaml").write_text(f"data:\n  shards: {root / 'shards'}\nrun:\n  root: {root}\n")
    (root / "chain.yaml").write_text(COMMON + STAGES)
    stages = read_chain(root / "chain.yaml", [])
    interrupted = replace(stages[0], overrides=(*stages[0].overrides, "run.max_steps=4"))
    assert run_chain([interrupted], n_ranks=1) == 0
    assert not stages[0].is_finished()
    assert run_chain(stages, n_ranks=1) == 0
    return stages


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Iterator[Grid]:
    """This process as the only rank."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.delenv("RANK", raising=False)
    yield open_grid("cpu")
    dist.destroy_process_group()


def records(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def events(stage: Stage) -> list[str]:
    return [record["event"] for record in records(stage.run_dir) if "event" in record]


def start_of(run_dir: Path) -> dict[str, float]:
    """Means of the first two epochs."""
    reports = [record["losses"] for record in records(run_dir) if "losses" in record][:6]
    return {name: statistics.mean(losses[name] for losses in reports) for name in UNTRAINED}


@pytest.mark.long
def test_an_interrupted_stage_goes_on_and_a_finished_one_is_skipped(chain: list[Stage],
                                                                    capfd: pytest.CaptureFixture[str]) -> None:
    assert any("resumed from" in event and "step 4" in event for event in events(chain[0]))
    capfd.readouterr()
    assert run_chain(chain, n_ranks=1) == 0
    assert capfd.readouterr().out.count("finished before") == 3


@pytest.mark.long
def test_each_stage_says_what_it_took_from_the_one_before(chain: list[Stage]) -> None:
    for number, stage in enumerate(chain[1:], 1):
        (line,) = (event for event in events(stage) if event.startswith("generator: "))
        assert f"left as initialised (netG{number}." in line
        assert not any(f"netG{earlier}." in line for earlier in range(number))
        assert any(event.startswith("image: ") and "left as initialised" not in event for event in events(stage))


@pytest.mark.long
@pytest.mark.parametrize("number", [1, 2])
def test_a_stage_starts_better_than_from_scratch(chain: list[Stage], grid: Grid, number: int) -> None:
    cfg = read_chain(chain[0].config.parent / "chain.yaml", [])[number].cfg
    cfg.run.name, cfg.run.load_pretrain, cfg.run.max_steps = f"scratch_{number}", "", 6
    Trainer(cfg, grid).run()
    started, scratch = start_of(chain[number].run_dir), start_of(Path(cfg.run.root) / cfg.run.name)
    assert all(started[name] < scratch[name] for name in UNTRAINED), (started, scratch)


@pytest.mark.long
def test_after_the_switch_every_scale_learns_and_the_rate_keeps_falling(chain: list[Stage]) -> None:
    """The original goes on with the finest scale alone, at its full rate."""
    weights = {step: load_file(chain[1].run_dir / f"checkpoints/step_{step:08d}/generator.safetensors")
               for step in (3, 6, 9, 15)}
    moved = {(a, b): {name.split(".")[0] for name, tensor in weights[a].items()
                      if name.endswith("weight") and not tensor.equal(weights[b][name])}
             for a, b in ((3, 6), (6, 9), (9, 15))}
    assert moved == {(3, 6): {"netG1"}, (6, 9): {"netG0", "netG1"}, (9, 15): {"netG0", "netG1"}}
    rates = {record["epoch"]: record["lr"]["G"] for record in records(chain[1].run_dir) if "losses" in record}
    assert rates == pytest.approx({1: 1e-3, 2: 1e-3, 3: 1e-3, 4: 2e-3 / 3, 5: 1e-3 / 3})


@pytest.mark.parametrize("path", sorted((ROOT / "configs/chains").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_chains_lead_to_three_scales(path: Path) -> None:
    stages = read_chain(path, [])
    assert [stage.cfg.generator.n_scales_spatial for stage in stages] == [1, 2, 3]
    sizes = [stage.cfg.data.loadSize for stage in stages]
    assert sizes == [sizes[0], 2 * sizes[0], 4 * sizes[0]]
    assert [stage.cfg.run.load_pretrain for stage in stages] == ["", *(str(stage.run_dir) for stage in stages[:-1])]


@pytest.mark.parametrize(("text", "message"), [
    ("stages: []", "no stages"), ("- config: any.yaml", "expected overrides and stages"),
    ("stages: [", "not valid YAML"),
    ("stages: [{overrides: []}]", "stage 1 has no config"),
    ("stages: [{config: 5}]", "stage 1 has no config"),
    ("{overrides: optim.lr=1e-4, stages: [{config: any.yaml}]}", "'optim.lr=1e-4' is no list"),
    ("stages: [{config: any.yaml, overrides: [{optim.lr: 1}]}]", "is no list: write"),
    ("stages: [{config: any.yaml}, {config: any.yaml}]", "train in the same folder"),
    ("stages: [{config: any.yaml, override: []}]", "expected config and overrides"),
])
def test_a_file_that_is_no_chain_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "any.yaml").write_text("run:\n  name: same\n")
    (tmp_path / "chain.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_chain(tmp_path / "chain.yaml", [])
