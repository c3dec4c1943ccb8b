"""Roles are reduced as soon as this rank has no more to do for them, and no sooner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.engine.run.updates import Updates, always


class Engine:
    """Notes whether its role has been reduced."""

    gradient_norm = torch.zeros(())
    reduced = stepped = False

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        yield
        self.reduced = True

    def step(self) -> None:
        assert self.reduced
        self.stepped = True


def test_the_face_discriminator_waits_for_the_image_discriminators_tasks() -> None:
    """Also where it is the first to be reduced: it has no tasks of its own to wait for."""
    engines = {"face": Engine(), "image": Engine()}
    updates = Updates(engines, {"image": 2}, Timer(), torch.device("cpu"))  # type: ignore[arg-type]
    for _ in range(2):
        assert not any(ready.is_set() for ready in updates._ready.values())
        assert not engines["face"].reduced
        updates.done("image")
    assert updates.finish({}, always)
    assert all(engine.stepped for engine in engines.values())


def test_a_role_without_tasks_here_is_reduced_at_once() -> None:
    engines = {"image": Engine(), "face": Engine()}
    updates = Updates(engines, {}, Timer(), torch.device("cpu"))  # type: ignore[arg-type]
    assert updates.finish({}, always)
    assert all(engine.reduced for engine in engines.values())
