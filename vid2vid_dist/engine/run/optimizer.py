"""Optimiser backends behind one small interface: DeepSpeed ZeRO for real runs, a plain one for verification.

A step is: enter `accumulate()` of every role, call `backward` any number of times (also never), leave it, `step()`,
and `discard()` if that was refused. Gradients of all ranks are summed, so the caller divides a loss by the number of
clips in the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.optimizer_state import Owned, SavedPieces, pieces
from vid2vid_dist.models.blocks import BatchNorm

Tensors = Tensor | Sequence[Tensor]
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class RoleEngine(Protocol):
    """A role's module together with its optimiser, over all ranks that hold the role."""

    module: nn.Module
    gradient_norm: torch.Tensor
    """Of what this rank has accumulated in the step, before the reduction: not finite if any of it is not."""

    update_norm: torch.Tensor
    """Of the gradients of the last update, summed over the ranks, before they were shortened; NaN before the first."""

    def accumulate(self) -> AbstractContextManager[None]:
        """All backward passes of one step happen inside; the reduction over ranks happens on leaving."""

    def backward(self, outputs: Tensors, gradients: Tensors | None = None,
                 leaves: Sequence[Tensor] = ()) -> Sequence[Tensor | None]:
        """Add the gradients of a scalar, or what `gradients` of `outputs` make of them. Returns those of `leaves`, None
        where the outputs do not depend on one."""

    def step(self, refused: Tensor | None = None) -> None:
        """Update the weights by the summed gradients; where `refused`, a scalar on the device, is 1, weights and
        optimiser stay as they are."""

    def discard(self) -> None:
        """After a step that was refused: the module's statistics are those from before it, too."""

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


class Gradients:
    """The gradients of trained parameters, which are views into the flat tensor `weights`: `flat`, laid out as that is.

    A backward pass adds all of its own in one operation; a parameter's `grad` is its part. Where nothing was added it
    is zero: all ranks reduce the same, and Adam's momentum moves a network without a loss as well, as in the original.
    """

    def __init__(self, parameters: list[nn.Parameter], weights: Tensor) -> None:
        self.flat = torch.zeros_like(weights)
        self._parameters = parameters
        for p in parameters:
            start = p.storage_offset() - weights.storage_offset()
            p.grad = self.flat[start : start + p.numel()].view_as(p)
        self._parts = [p.grad for p in parameters if p.grad is not None]

    def add(self, outputs: Tensors, gradients: Tensors | None, leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """As `RoleEngine.backward`."""
        found = torch.autograd.grad(outputs, [*self._parameters, *leaves], gradients, allow_unused=True)
        n_parts = len(self._parts)
        pairs = [(part, x) for part, x in zip(self._parts, found[:n_parts], strict=True) if x is not None]
        if pairs:
            torch._foreach_add_(*map(list, zip(*pairs, strict=True)))
        return found[n_parts:]

    def norm(self) -> Tensor:
        return norm(self._parts)


def norm(parts: Sequence[Tensor]) -> Tensor:
    """Of all elements together, in float32 or wider."""
    wide = torch.promote_types(parts[0].dtype, torch.float32)
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(parts), 2, wide)))


def shorten(gradients: Tensor, norm: Tensor, longest: float) -> None:
    """Scale gradients, which are part of a whole of this norm, as torch's `clip_grad_norm_` would; 0 = leave them."""
    if longest:
        gradients.mul_((longest / (norm + 1e-6)).clamp(max=1))


def descend(optimizer: torch.optim.Optimizer, refused: Tensor | None) -> None:
    """A step of an optimiser, none where `refused` is 1. Fused ones look at it on the device, DeepSpeed's in
    the host's memory cannot."""
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = refused  # type: ignore[attr-defined]
    elif refused is not None and refused:
        return
    optimizer.step()


class Statistics:
    """The running statistics of a module's normalisations: a step writes them, and may be discarded."""

    def __init__(self, module: nn.Module) -> None:
        self._buffers = list(module.buffers())
        self._norms = [x for x in module.modules() if isinstance(x, BatchNorm)]
        self._before: list[torch.Tensor] = []

    def keep(self) -> None:
        if not self._before:
            self._before = [torch.empty_like(buffer) for buffer in self._buffers]
        _copy(self._before, self._buffers)
        for norm in self._norms:
            norm.n_uncounted = 0

    def count(self) -> None:
        """Tell the norms of the batches since `keep`."""
        if self._norms:
            counters = [cast(Tensor, norm.num_batches_tracked) for norm in self._norms]
            torch._foreach_add_(counters, [norm.n_uncounted for norm in self._norms])

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
        parameters = trained_parameters(module)
        self._weights = nn.Parameter(parameters_to_vector(parameters).detach())
        vector_to_parameters(self._weights.detach(), parameters)
        self._gradients = Gradients(parameters, self._weights)
        self._weights.grad = self._gradients.flat
        self._optimizer = make_optimizer([self._weights])
        self._statistics = Statistics(module)
        self._grid = grid
        self.update_norm = self._norm_before = torch.tensor(math.nan)
        grid.share_first(module)

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        self._statistics.keep()
        self._gradients.flat.zero_()
        yield
        self._statistics.count()
        self.gradient_norm = self._gradients.norm()
        self._grid.sum(self._gradients.flat)

    def backward(self, outputs: Tensors, gradients: Tensors | None = None,
                 leaves: Sequence[Tensor] = ()) -> Sequence[Tensor | None]:
        return self._gradients.add(outputs, gradients, leaves)

    def step(self, refused: Tensor | None = None) -> None:
        self._norm_before = self.update_norm
        self.update_norm = self.gradient_norm if self._grid.world_size == 1 else self._gradients.norm()
        shorten(self._gradients.flat, self.update_norm, self._clip_norm)
        descend(self._optimizer, refused)

    def discard(self) -> None:
        self.update_norm = self._norm_before
        self._statistics.put_back()

    def set_lr(self, lr: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr

    def state(self) -> dict[str, Tensor]:
        return pieces(self._owned(), self._weights, self._optimizer.state[self._weights]) if self._grid.is_first else {}

    def restore(self, saved: SavedPieces) -> None:
        saved.restore(self._owned(), self._weights, self._optimizer.state[self._weights])

    def _owned(self) -> list[Owned]:
        return [Owned(name, 0, p.numel(), int(p.storage_offset())) for name, p in self.module.named_parameters()
                if p.requires_grad]

    def close(self) -> None:
        self._optimizer.state.clear()
