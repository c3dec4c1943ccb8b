"""Optimiser backends behind one small interface: DeepSpeed ZeRO for real runs, a plain one for verification.

A step is: enter `accumulate()` of every role, call `backward` any number of times (also never), leave it,
`step()` or `discard()`. Gradients of all ranks are summed, so the caller divides a loss by the number of clips in
the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.optimizer_state import Owned, SavedPieces, pieces

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class RoleEngine(Protocol):
    """A role's module together with its optimiser, over all ranks that hold the role."""

    module: nn.Module
    gradient_norm: torch.Tensor
    """Of what this rank has accumulated in the step, before the reduction: not finite if any of it is not."""

    update_norm: float | torch.Tensor
    """Of the gradients of the last update, summed over the ranks, before they were shortened; NaN before the first."""

    def accumulate(self) -> AbstractContextManager[None]:
        """All backward passes of one step happen inside; the reduction over ranks happens on leaving."""

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a scalar."""

    def step(self) -> None:
        """Update the weights by the summed gradients, and clear them."""

    def discard(self) -> None:
        """Clear the summed gradients: weights, optimiser and the module's statistics are those from before the step."""

    def set_lr(self, lr: float) -> None: ...

    def state(self) -> dict[str, Tensor]:
        """What this rank owns of master weights and moments (`optimizer_state.pieces`), not copied."""

    def restore(self, saved: SavedPieces) -> None:
        """Take up masters and moments from what all ranks of a run saved. Weights are loaded before; learning rate
        and Adam's decays stay those of the configuration."""

    def close(self) -> None:
        """Give the memory back; neither engine nor module is used again."""


def trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def fill_missing_gradients(parameters: list[nn.Parameter]) -> torch.Tensor:
    """Zeros where nothing was accumulated: all ranks must reduce the same tensors, and Adam's momentum moves
    a network without a loss as well, as in the original. Returns the norm of all of them."""
    gradients = []
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        gradients.append(p.grad)
    return get_total_norm(gradients)


def shorten(gradients: list[Tensor], norm: Tensor, longest: float) -> None:
    """Scale gradients, which are part of a whole of this norm, as torch's `clip_grad_norm_` would; 0 = leave them."""
    if longest and gradients:
        torch._foreach_mul_(gradients, (longest / (norm + 1e-6)).clamp(max=1))


class Statistics:
    """The running statistics of a module's normalisations: a step writes them, and may be discarded."""

    def __init__(self, module: nn.Module) -> None:
        self._buffers = list(module.buffers())
        self._before: list[torch.Tensor] = []

    def keep(self) -> None:
        if not self._before:
            self._before = [torch.empty_like(buffer) for buffer in self._buffers]
        _copy(self._before, self._buffers)

    def put_back(self) -> None:
        _copy(self._buffers, self._before)


def _copy(to: list[torch.Tensor], source: list[torch.Tensor]) -> None:
    """In one operation."""
    if to:
        torch._foreach_copy_(to, source)


class PlainEngine:
    """torch.optim on every rank, gradients summed over the ranks; any dtype."""

    def __init__(self, module: nn.Module, make_optimizer: MakeOptimizer, grid: Grid, clip_norm: float = 0.0) -> None:
        self.module, self._clip_norm = module, clip_norm
        self._parameters = trained_parameters(module)
        self._optimizer = make_optimizer(self._parameters)
        self._statistics = Statistics(module)
        self._grid = grid
        self.update_norm: float | Tensor = math.nan
        grid.share_first(module)

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        self._statistics.keep()
        yield
        self.gradient_norm = fill_missing_gradients(self._parameters)
        for p in self._parameters:
            assert p.grad is not None
            self._grid.sum(p.grad)

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def step(self) -> None:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self.update_norm = get_total_norm(gradients)
        shorten(gradients, self.update_norm, self._clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def discard(self) -> None:
        self._optimizer.zero_grad()
        self._statistics.put_back()

    def set_lr(self, lr: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr

    def state(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, p in self._named() if self._grid.is_first else ():
            found |= pieces([Owned(name, 0, p.numel(), 0)], p, self._optimizer.state[p])
        return found

    def restore(self, saved: SavedPieces) -> None:
        for name, p in self._named():
            flat: dict[str, Tensor] = {}
            saved.restore([Owned(name, 0, p.numel(), 0)], p.detach().view(-1), flat)
            self._optimizer.state[p] = {key: x.view_as(p) if x.ndim else x for key, x in flat.items()}

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def close(self) -> None:
        self._optimizer.state.clear()
