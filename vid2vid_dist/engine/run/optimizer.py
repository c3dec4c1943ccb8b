"""A role's weights and their optimiser behind one small interface, with DeepSpeed ZeRO (`zero`) or without.

A step is: `begin()`, `backward` any number of times (also never), `reduce` of each bucket when its gradients are
complete, `step()`, and `discard()` if that was refused. Gradients of all ranks are summed, so the caller divides a loss
by the number of clips in the step.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.optimizer_state import Owned, SavedPieces, pieces
from vid2vid_dist.models.blocks import BatchNorm

Tensors = Tensor | Sequence[Tensor]
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


class Gradients:
    """The gradients of trained parameters, which are views into the flat tensor `weights`: `flat`, laid out as that is.

    A backward pass adds all of its own in one operation; a parameter's `grad` is its part. Where nothing was added it
    is zero: all ranks reduce the same, and Adam's momentum moves a network without a loss as well, as in the original.
    `buckets`: runs of `flat`, of the parameters that are in one.
    """

    def __init__(self, buckets: Sequence[Sequence[nn.Parameter]], weights: Tensor) -> None:
        self.flat = torch.zeros_like(weights)
        self._parameters = [p for bucket in buckets for p in bucket]
        starts = [int(p.storage_offset() - weights.storage_offset()) for p in self._parameters]
        assert starts == [0, *accumulate(p.numel() for p in self._parameters)][:-1], "not bucket after bucket, or gaps"
        for p, start in zip(self._parameters, starts, strict=True):
            p.grad = self.flat[start : start + p.numel()].view_as(p)
        self._parts = [[p.grad for p in bucket if p.grad is not None] for bucket in buckets]
        sizes = [sum(p.numel() for p in bucket) for bucket in buckets]
        *self.buckets, _ = self.flat.split([*sizes, self.flat.numel() - sum(sizes)])  # ZeRO fills up to equal shards

    def add(self, outputs: Tensors, gradients: Tensors | None, leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """As `RoleEngine.backward`."""
        found = torch.autograd.grad(outputs, [*self._parameters, *leaves], gradients, allow_unused=True)
        n_own = len(self._parameters)
        pairs = [(p.grad, x) for p, x in zip(self._parameters, found[:n_own], strict=True) if x is not None]
        if pairs:
            torch._foreach_add_(*map(list, zip(*pairs, strict=True)))
        return found[n_own:]

    def norms(self, *buckets: int) -> list[Tensor]:
        """Of each parameter's in these buckets; without any, in all."""
        return norms([part for number in buckets or range(len(self.buckets)) for part in self._parts[number]])


def norms(parts: Sequence[Tensor]) -> list[Tensor]:
    """Of each, in float32 or wider."""
    return list(torch._foreach_norm(list(parts), 2, torch.promote_types(parts[0].dtype, torch.float32)))


def norm(of: Sequence[Tensor]) -> Tensor:
    """Of all elements together, from the norms of all parts."""
    return torch.linalg.vector_norm(torch.stack(list(of)))


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


@dataclass(frozen=True)
class Shard:
    """What the optimiser of a rank updates: part `number` of `n_parts` equal ones of a role's weights.

    `weights`: all trained parameters, which are views into this flat tensor, `buckets` one after the other. `master`:
    the part, in the optimiser's format and memory, of which `owned` are runs of parameters; `publish` copies all ranks'
    masters into the weights. `scatters`: a rank gets the sums of its own part only.
    """

    buckets: list[list[nn.Parameter]]
    weights: Tensor
    master: Tensor
    optimizer: torch.optim.Optimizer
    owned: list[Owned]
    close: Callable[[], None]
    publish: Callable[[], None] = lambda: None
    number: int = 0
    n_parts: int = 1
    scatters: bool = False


def plain_shard(module: nn.Module, make_optimizer: MakeOptimizer, grid: Grid, buckets: list[list[nn.Parameter]]
                ) -> Shard:
    """All weights, in any format, on every rank. `buckets`: of the trained parameters."""
    parameters = [p for bucket in buckets for p in bucket]
    weights = nn.Parameter(parameters_to_vector(parameters).detach())
    vector_to_parameters(weights.detach(), parameters)
    grid.share_first(module)
    optimizer = make_optimizer([weights])
    owned = [Owned(name, 0, p.numel(), int(p.storage_offset())) for name, p in module.named_parameters()
             if p.requires_grad]
    return Shard(buckets, weights, weights, optimizer, owned, optimizer.state.clear)


class RoleEngine:
    """A role's module together with its optimiser, over all ranks that hold the role (`grid`)."""

    update_norm: Tensor
    """Of the gradients of the last update, summed over the ranks, before they were shortened; NaN before the first."""

    def __init__(self, module: nn.Module, shard: Shard, grid: Grid, clip_norm: float = 0.0) -> None:
        """`clip_norm`: gradients are scaled as by torch's `clip_grad_norm_`; 0 = never."""
        self.module, self._shard, self._grid, self._clip_norm = module, shard, grid, clip_norm
        self._gradients, self._statistics = Gradients(shard.buckets, shard.weights), Statistics(module)
        self._norms: list[Tensor] = []
        self._mine = self._gradients.flat.chunk(shard.n_parts)[shard.number]
        self.update_norm = self._norm_before = torch.tensor(math.nan)

    def begin(self) -> None:
        """All backward passes of a step come after this."""
        self._statistics.keep()
        self._gradients.flat.zero_()
        self._norms.clear()

    def backward(self, outputs: Tensors, gradients: Tensors | None = None,
                 leaves: Sequence[Tensor] = ()) -> Sequence[Tensor | None]:
        """Add the gradients of a scalar, or what `gradients` of `outputs` make of them. Returns those of `leaves`, None
        where the outputs do not depend on one."""
        return self._gradients.add(outputs, gradients, leaves)

    @property
    def n_buckets(self) -> int:
        return len(self._gradients.buckets)

    def reduce(self, bucket: int = 0) -> None:
        """Sum the gradients in a bucket over the ranks; all of these call it."""
        if not self._gradients.buckets[bucket].numel():  # of scales that are not trained
            return
        self._norms += self._gradients.norms(bucket)
        if self._shard.scatters:  # a rank's part reaches over buckets, so there is one
            dist.reduce_scatter_tensor(self._mine, self._gradients.flat, group=self._grid.everyone)
        else:
            self._grid.sum(self._gradients.buckets[bucket])

    @property
    def gradient_norm(self) -> Tensor:
        """Of what this rank has accumulated in the step, before the reductions: not finite if any of it is not."""
        if len(self._norms) > 1:  # asked for more than once in a step
            self._norms = [norm(self._norms)]
        return self._norms[0]

    def step(self, refused: Tensor | None = None) -> None:
        """Update the weights by the summed gradients; where `refused`, a scalar on the device, is 1, weights and
        optimiser stay as they are."""
        master, optimizer = self._shard.master, self._shard.optimizer
        self._statistics.count()
        self._norm_before, self.update_norm = self.update_norm, self._summed_norm()
        if self._clip_norm:
            self._mine.mul_((self._clip_norm / (self.update_norm + 1e-6)).clamp(max=1))
        master.grad = self._mine.to(master.device, master.dtype)
        refused = None if refused is None else refused.to(master.device)
        if optimizer.defaults.get("fused"):  # looks at it on the device
            optimizer.found_inf = refused  # type: ignore[attr-defined]
            optimizer.step()
        elif refused is None or not refused:
            optimizer.step()
        master.grad = None
        self._shard.publish()

    def _summed_norm(self) -> Tensor:
        """Of the reduced gradients, of which every rank has those of its shard, or all."""
        if self._shard.scatters:
            return self._grid.sum(norm(norms(self._mine.split(2**20))).square()).sqrt()
        return self.gradient_norm if self._grid.world_size == 1 else norm(self._gradients.norms())

    def discard(self) -> None:
        """After a step that was refused: the module's statistics are those from before it, too."""
        self.update_norm = self._norm_before
        self._statistics.put_back()

    def set_lr(self, lr: float) -> None:
        for group in self._shard.optimizer.param_groups:
            group["lr"] = lr

    def state(self) -> dict[str, Tensor]:
        """What this rank saves of master weights and moments (`optimizer_state.pieces`), not copied."""
        shard = self._shard
        if shard.n_parts == 1 and not self._grid.is_first:
            return {}
        return pieces(shard.owned, shard.master, shard.optimizer.state[shard.master])

    def restore(self, saved: SavedPieces) -> None:
        """Take up masters and moments from what all ranks of a run saved. Weights are loaded before; learning rate
        and Adam's decays stay those of the configuration."""
        saved.restore(self._shard.owned, self._shard.master, self._shard.optimizer.state[self._shard.master])

    def close(self) -> None:
        """Give the memory back; neither engine nor module is used again."""
        self._shard.close()
