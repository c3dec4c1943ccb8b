"""Roles are reduced beside the tasks, in the order of the plan; then all are updated, or none."""

from collections.abc import Mapping

import pytest
import torch

from tests.torchrun import wait_until
from vid2vid_dist.engine.plan.tasks import Kind, Task
from vid2vid_dist.engine.run.grid import solo_grid
from vid2vid_dist.engine.run.optimizer import RoleEngine, plain_shard
from vid2vid_dist.engine.run.streams import Beside
from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.engine.run.updates import Updates, Verdict, always
from vid2vid_dist.models.spectral import spectrally_normalised


class Engine:
    """Notes that its role has been reduced, after which others, and updated."""

    gradient_norm = torch.zeros(())
    n_buckets = 1
    stepped = discarded = False

    def __init__(self, name: str, reduced: list[str]) -> None:
        self.module = torch.nn.Linear(1, 1)
        self.name, self.reduced = name, reduced

    def begin(self) -> None: ...

    def reduce(self, bucket: int) -> None:
        self.reduced.append(self.name)

    def step(self, refused: torch.Tensor | None) -> None:
        assert self.name in self.reduced
        self.stepped = refused is None or not refused

    def discard(self) -> None:
        self.discarded = True


def updates_of(*roles: str, alone: bool = False) -> tuple[Updates, dict[str, Engine], list[str]]:
    """Of these roles; last, those that have been reduced."""
    reduced: list[str] = []
    engines = {role: Engine(role, reduced) for role in roles}
    beside = Beside(torch.device("cpu"), alone)
    return Updates(engines, Timer(), beside), engines, reduced  # type: ignore[arg-type]


def of(role: str) -> Task:
    return Task(0, Kind.REDUCE, role)


@pytest.mark.parametrize("alone", [True, False])
def test_roles_are_reduced_in_the_order_given(alone: bool) -> None:
    updates, engines, reduced = updates_of("image", "face", alone=alone)
    updates.reduce(of("face"))
    wait_until(lambda: reduced == ["face"])  # while tasks of others go on
    updates.reduce(of("image"))
    assert updates.finish({}, always)
    assert reduced == ["face", "image"]
    assert all(engine.stepped for engine in engines.values())


def test_a_reduction_that_fails_is_raised_at_the_end_of_the_step() -> None:
    updates, engines, _ = updates_of("image", "face")
    engines["image"].reduced = None  # type: ignore[assignment]
    for role in engines:
        updates.reduce(of(role))
    with pytest.raises(AttributeError):
        updates.finish({}, always)
    assert not any(engine.stepped for engine in engines.values())


def test_all_roles_are_updated_or_none() -> None:
    updates, engines, reduced = updates_of("image", "face")
    engines["face"].gradient_norm = torch.tensor(float("inf"))
    seen: list[str] = []

    def refuse(values: Mapping[str, torch.Tensor]) -> Verdict:
        seen.extend(name for name, value in values.items() if not value.isfinite())
        return Verdict(torch.ones(()), lambda: False)

    for role in engines:
        updates.reduce(of(role))
    assert not updates.finish({"D_real": torch.tensor(float("nan")), "L1": torch.tensor(1.0)}, refuse)
    assert seen == ["D_real", "gradient of face"]
    assert reduced == ["image", "face"]
    assert all(engine.discarded and not engine.stepped for engine in engines.values())


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_takes_one_power_iteration_and_puts_it_back_with_the_weights(fused: bool) -> None:
    module = spectrally_normalised(torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3)))
    shard = plain_shard(module, lambda p: torch.optim.SGD(p, lr=0.1, fused=fused), solo_grid(),
                        [list(module.parameters())])
    engine = RoleEngine(module, shard, solo_grid())
    before = {name: x.clone() for name, x in module.state_dict().items()}
    for agreed in (False, True):
        updates = Updates({"image": engine}, Timer(), Beside(torch.device("cpu"), True))
        engine.backward(engine.module(torch.ones(1, 3, 4, 4)).square().sum())
        updates.reduce(of("image"))
        verdict = Verdict(torch.tensor(float(not agreed)), lambda answer=agreed: answer)  # type: ignore[misc]
        assert updates.finish({}, lambda _, verdict=verdict: verdict) == agreed  # type: ignore[misc]
        same = [x.equal(before[name]) for name, x in module.state_dict().items()]
        assert not any(same) if agreed else all(same)
