"""Reductions of a step's roles beside the tasks of other roles, and the updates at its end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor

from vid2vid_dist.engine.plan.tasks import CostKey, Kind
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.timing import Timer

MayUpdate = Callable[[list[str]], bool]
"""Takes the names of what is not finite on this rank, returns whether the step's updates are made. Every rank calls it
once per step, at the same point, and all get the same answer: it may be a collective, and may raise on all ranks."""


def always(nonfinite: list[str]) -> bool:
    """Every step is updated; the other ranks are not asked."""
    return True


def find_nonfinite(engines: Mapping[str, RoleEngine], losses: Mapping[str, Tensor]) -> list[str]:
    """What is not finite of this rank's part in a step: losses by name, "gradient of ROLE"."""
    values = dict(losses) | {f"gradient of {role}": engine.gradient_norm for role, engine in engines.items()}
    if not values:
        return []
    finite = torch.stack([value.detach().double() for value in values.values()]).isfinite()
    return [name for name, is_finite in zip(values, finite.tolist(), strict=True) if not is_finite]


class Updates:
    """One step's. Made before its tasks; every task that touches a role is noted when it is done.

    A thread reduces role after role, in one order on all ranks, each as soon as this rank has no more to do for
    it; tasks of other roles, and the messages between them, go on meanwhile. They never wait for the thread before the
    end of the step, so it cannot take part in a circle, whatever plans the pipelines follow. Updates wait for the end
    of the step: one gradient that is not finite, on any rank, keeps all weights as they are.
    """

    def __init__(self, engines: Mapping[str, RoleEngine], n_tasks: Mapping[str, int], timer: Timer,
                 device: torch.device) -> None:
        """`engines`: those that step, by role, in the order of their reductions; `n_tasks`: of this rank, by role."""
        self._engines = dict(engines)
        self._left = Counter(n_tasks)
        self._timer, self._device = timer, device
        self._accumulating = {role: ExitStack() for role in self._engines}
        for role, engine in self._engines.items():
            self._accumulating[role].enter_context(engine.accumulate())
        self._ready = {role: threading.Event() for role in self._engines}
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)
        self._thread.start()
        self._look()

    def done(self, role: str) -> None:
        """A task of a role is done."""
        self._left[role] -= 1
        self._look()

    def finish(self, losses: Mapping[str, Tensor], may_update: MayUpdate) -> bool:
        """Wait for the rest, then update every role, or none where `may_update` says no; returns which.

        Call it when all messages of the step have been received: `may_update` may be a collective. An error of the
        thread is raised here.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        agreed = may_update(find_nonfinite(self._engines, losses))
        for role, engine in self._engines.items():
            with self._timer.span(f"update {role}", CostKey(role, Kind.UPDATE)):
                engine.step() if agreed else engine.discard()
        return agreed

    def _look(self) -> None:
        for role, ready in self._ready.items():
            if not self._left[role]:
                ready.set()

    def _run(self) -> None:
        try:
            if self._device.type == "cuda":
                torch.cuda.set_device(self._device)
            for role in self._engines:
                self._ready[role].wait()
                with self._timer.span(f"reduce {role}", CostKey(role, Kind.REDUCE)):
                    self._accumulating[role].close()
        except BaseException as error:
            self._error = error
