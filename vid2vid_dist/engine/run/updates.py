"""Reductions of a step's gradients beside the tasks that follow, and the updates at its end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from vid2vid_dist.engine.plan.tasks import Bucket, CostKey, Kind, Task
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.streams import Beside
from vid2vid_dist.engine.run.timing import Timer
from vid2vid_dist.models.spectral import advance


@dataclass(frozen=True)
class Verdict:
    """Whether a step's updates are made, the same on all ranks.

    `refused`: a float32 scalar on the device, 1 where weights and optimisers stay as they are, else 0; None is 0.
    `agreed`: tells the host, which has queued the updates by then: but for offloading and `data.max_faults`
    (docs/gpu.md) the one place where it waits for a GPU in a step. Every rank calls it once, at the same point: it may
    be a collective, and may raise on all ranks.
    """

    refused: Tensor | None = None
    agreed: Callable[[], bool] = lambda: True


MayUpdate = Callable[[Mapping[str, Tensor]], Verdict]
"""Takes this rank's part in the step, losses by name and the norm of every "gradient of ROLE", scalars on its device.
Every rank calls it once per step, at the same point: it may be a collective."""


def always(values: Mapping[str, Tensor]) -> Verdict:
    """Every step is updated, whatever came of it; the other ranks are not asked."""
    return Verdict()


class Updates:
    """One step's, made before its tasks. Buckets are reduced beside the tasks that follow, where the plan says so.

    Updates wait for the end of the step: one gradient that is not finite, on any rank, keeps all weights as they are.
    """

    def __init__(self, engines: Mapping[str, RoleEngine], timer: Timer, beside: Beside) -> None:
        """`engines`: those that step, by role."""
        self._engines, self._timer, self._beside = engines, timer, beside
        self._to_reduce = {Bucket(role, number) for role, engine in engines.items()
                           for number in range(engine.n_buckets)}
        for engine in engines.values():
            engine.begin()
            advance(engine.module)  # on every holder alike; a step that is discarded puts it back

    def reduce(self, task: Task) -> None:
        """The last gradient of a bucket is there."""
        self._to_reduce.remove(task.reduces)
        self._beside.do(partial(self._reduce, task))

    def finish(self, losses: Mapping[str, Tensor], may_update: MayUpdate) -> bool:
        """Wait for the reductions, then update every role, or none where `may_update` says no; returns which.

        Call it when all messages of the step have been received: `may_update` may be a collective.
        """
        assert not self._to_reduce, self._to_reduce
        self._beside.wait()
        verdict = may_update({**losses, **{f"gradient of {role}": engine.gradient_norm
                                           for role, engine in self._engines.items()}})
        for role, engine in self._engines.items():
            with self._timer.span(f"update {role}", CostKey(role, Kind.UPDATE)):
                engine.step(verdict.refused)
        agreed = verdict.agreed()
        if not agreed:
            for engine in self._engines.values():
                engine.discard()
        return agreed

    def _reduce(self, task: Task) -> None:
        with self._timer.span(task.name, task.cost_key):
            self._engines[task.role].reduce(task.bucket)
