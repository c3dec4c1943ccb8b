"""Roles are reduced in one order, as soon as this rank has no more to do for them; then all are updated, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tests.torchrun import wait_until
from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.engine.run.updates import Updates, always


class Engine:
    """Notes that its role has been reduced, after which others, and updated."""

    gradient_norm = torch.zeros(())
    stepped = discarded = False

    def __init__(self, name: str, reduced: list[str]) -> None:
        self.name, self.reduced = name, reduced

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        yield
        self.reduced.append(self.name)

    def step(self) -> None:
        assert self.name in self.reduced
        self.stepped = True

    def discard(self) -> None:
        self.discarded = True


def updates_of(*roles: str, **n_tasks: int) -> tuple[Updates, dict[str, Engine], list[str]]:
    """Of roles that are reduced in this order; last, those that have been."""
    reduced: list[str] = []
    engines = {role: Engine(role, reduced) for role in roles}
    return Updates(engines, n_tasks, Timer(), torch.device("cpu")), engines, reduced  # type: ignore[arg-type]


def test_a_role_is_reduced_when_its_last_task_here_is_done() -> None:
    updates, engines, reduced = updates_of("face", "image", face=1, image=2)
    for role, ready in (("image", set()), ("image", {"image"}), ("face", {"face", "image"})):
        assert not reduced, "image is complete, but face comes first on all ranks"
        updates.done(role)
        assert {role for role, event in updates._ready.items() if event.is_set()} == ready
    assert updates.finish({}, always)
    assert reduced == ["face", "image"]
    assert all(engine.stepped for engine in engines.values())


def test_a_role_without_tasks_here_is_reduced_at_once() -> None:
    updates, _, reduced = updates_of("image", "face", face=1)
    wait_until(lambda: bool(reduced))  # by the thread, while tasks of others go on
    assert reduced == ["image"]
    updates.done("face")
    assert updates.finish({}, always)
    assert reduced == ["image", "face"]


def test_all_roles_are_updated_or_none() -> None:
    updates, engines, reduced = updates_of("image", "face")
    engines["face"].gradient_norm = torch.tensor(float("inf"))
    seen: list[str] = []

    def refuse(nonfinite: list[str]) -> bool:
        seen.extend(nonfinite)
        return False

    assert not updates.finish({"D_real": torch.tensor(float("nan")), "L1": torch.tensor(1.0)}, refuse)
    assert seen == ["D_real", "gradient of face"]
    assert reduced == ["image", "face"]
    assert all(engine.discarded and not engine.stepped for engine in engines.values())
