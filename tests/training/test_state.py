"""The state of a run: whose lanes, the switch to all scales, what a checkpoint must agree with."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.planner import data_parallel
from vid2vid_dist.engine.plan.tensors import FrameSize
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.engine.run.grid import Grid, solo_grid
from vid2vid_dist.training.state import TrainingState
from vid2vid_dist.training.trainer import Trainer

Configure = Callable[..., Config]


def fresh(cfg: Config, grid: Grid | None = None) -> TrainingState:
    specs = role_specs(cfg)
    return TrainingState(specs, grid or solo_grid(), {}, longest=8, resume=None, placed=data_parallel(specs, 1))


def test_every_lane_belongs_to_one_rank(configure: Configure) -> None:
    cfg = configure("parallel.clips_per_step=6")
    ranks = torch.arange(2).reshape(-1, 1)
    state = fresh(cfg)
    found = []
    for rank in range(2):
        state.grid = replace(solo_grid(), ranks=ranks, rank=rank)
        found += list(state.my_lanes)
        assert len(state.my_lanes) == 3
    assert sorted(found) == list(range(state.n_lanes)) == list(range(6))


def test_a_lane_has_a_new_clip_at_every_start(configure: Configure) -> None:
    state, size = fresh(configure()), FrameSize(1, 32, 64)
    first = state.clip(0, chunk=0, size=size)
    assert state.clip(0, chunk=1, size=size) is first
    assert state.clip(0, chunk=0, size=size) is not first


def test_all_scales_join_with_the_weights_so_far(configure: Configure) -> None:
    state = fresh(configure("generator.n_scales_spatial=2", "schedule.niter_fix_global=2", "optim.TTUR=true"))
    generator = state.generator
    trained = {name.split(".")[0] for name, p in generator.named_parameters() if p.requires_grad}
    assert trained == {"netG1"}
    state.enter(2)
    assert state.generator is generator
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    state.enter(3)
    assert state.trains_all_scales
    module = state.generator
    assert all(p.requires_grad for p in module.parameters())
    assert all(tensor.equal(before[name]) for name, tensor in module.state_dict().items())


def test_memory_of_the_first_optimiser_is_given_back(configure: Configure, grid: Grid) -> None:
    state = fresh(configure("generator.n_scales_spatial=2", "schedule.niter_fix_global=1", "optim.backend=zero"), grid)
    weights = [weakref.ref(p) for p in state.generator.parameters()]
    state.enter(2)
    gc.collect()
    assert [ref for ref in weights if ref() is not None] == []


def rates(state: TrainingState) -> dict[str, float]:
    return {name: engine._shard.optimizer.param_groups[0]["lr"] for name, engine in state.engines().items()}


def test_every_role_gets_the_rate_of_the_epoch(configure: Configure) -> None:
    """Image and face discriminators decay, the temporal ones do not."""
    state = fresh(configure("schedule.niter=1", "schedule.niter_decay=4", "optim.lr=1e-3"))
    assert rates(state) == {"generator": 1e-3, "image": 1e-3, "temporal_0": 1e-3}
    state.enter(4)
    assert rates(state) == pytest.approx({"generator": 5e-4, "image": 5e-4, "temporal_0": 1e-3})


def test_rates_rise_from_step_to_step(configure: Configure, grid: Grid) -> None:
    """And go on rising where a resumed run takes up."""
    for n_steps in (1, 3, 6):
        trainer = Trainer(configure("optim.warmup_steps=4", "optim.lr=1e-3", f"run.max_steps={n_steps}"), grid)
        trainer.run()
        found = rates(trainer.state)
        assert len(found) == 3
        assert set(found.values()) == {1e-3 * min(n_steps, 4) / 4}


def test_average_turned_on_later_starts_with_the_weights_of_then(
        configure: Configure, grid: Grid, tmp_path: Path) -> None:
    """Not with the weights that the networks had before anything was loaded."""
    Trainer(configure("run.max_steps=2", "optim.lr=1e-2"), grid).run()
    state = Trainer(configure("run.max_steps=3", "optim.ema_decay=0.9"), grid).state
    assert state.ema is not None
    for name, tensor in state.generator.state_dict().items():
        assert state.ema.average[name].equal(tensor)


@pytest.mark.parametrize("backend", ["plain", "zero"])
def test_settings_of_adam_are_those_of_now(configure: Configure, grid: Grid, backend: str) -> None:
    """Not those under which the moments were saved."""
    Trainer(configure("run.max_steps=2", f"optim.backend={backend}"), grid).run()
    now = configure("run.max_steps=3", f"optim.backend={backend}", "optim.lr=1e-3", "optim.beta1=0.9")
    trainer = Trainer(now, grid)
    trainer.state.enter(1)
    engine = trainer.state.engines()["generator"]
    (settings,) = engine._shard.optimizer.param_groups
    assert (settings["lr"], settings["betas"]) == (1e-3, (0.9, 0.999))
    assert engine.state()["step"] == 2
