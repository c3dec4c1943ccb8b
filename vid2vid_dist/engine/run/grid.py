"""Who is where: the ranks of a run as one integer tensor, and every process group as a slice of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn

from vid2vid_dist.errors import LostRankError, UserError

T = TypeVar("T")
CPU = torch.device("cpu")
PATIENCE = timedelta(minutes=10)
THREADS_PATIENCE = timedelta(hours=2)  # a checkpoint may take long to write; a rank that dies is noticed at once

# How gloo and NCCL say that a rank on the other end has left, or does not answer.
_LOST = ("Connection closed by peer", "Connection reset by peer", "Connection was likely closed", "Broken pipe",
         "Timed out", "timed out", "ncclRemoteError")


@dataclass(frozen=True)
class Grid:
    """The ranks of a run.

    `ranks` is the integer tensor `[pipeline, slot]`. A pipeline is the smallest set of ranks that holds every role;
    pipelines are replicated data-parallel. `open_grid` makes every rank a pipeline of its own, `in_pipelines` others.
    """

    ranks: torch.Tensor
    rank: int
    device: torch.device
    everyone: Any  # process group of all ranks
    alone: Any  # process group of this rank only (DeepSpeed needs a real one for model parallelism)
    timeout: timedelta  # how long ranks wait for each other

    @property
    def world_size(self) -> int:
        return self.ranks.numel()

    @property
    def first(self) -> int:
        """The rank that decides for all of these."""
        return int(self.ranks.flatten()[0])

    @property
    def is_first(self) -> bool:
        return self.rank == self.first

    @property
    def pipeline(self) -> int:
        return int((self.ranks == self.rank).nonzero()[0, 0])

    @property
    def rank_in_pipeline(self) -> int:
        return int((self.ranks == self.rank).nonzero()[0, 1])

    @property
    def n_slots(self) -> int:
        return self.ranks.shape[1]

    def in_pipelines(self, n_slots: int) -> Grid:
        """The same ranks in pipelines of `n_slots` ranks each; those of a pipeline are neighbours."""
        return replace(self, ranks=self.ranks.reshape(-1, n_slots))

    def holders(self, slots: Mapping[str, tuple[int, ...]]) -> dict[str, Grid]:
        """The ranks that hold each role, over all pipelines: for the roles of this rank only.

        Every rank must call it with the same slots: groups are created by all ranks, in the same order.
        """
        if self.n_slots == 1:  # every rank holds every role
            return dict.fromkeys(slots, self)
        groups = {}
        for of_role in dict.fromkeys(slots.values()):
            ranks = self.ranks[:, list(of_role)]
            groups[of_role] = replace(self, ranks=ranks, everyone=dist.new_group(
                sorted(ranks.flatten().tolist()), timeout=self.timeout))
        return {role: groups[of_role] for role, of_role in slots.items() if self.rank_in_pipeline in of_role}

    def of_threads(self) -> Grid:
        """The same ranks with a group of their own, for background threads: training goes on with its collectives."""
        if self.world_size == 1:
            return self
        return replace(self, device=CPU, everyone=dist.new_group(backend="gloo", timeout=THREADS_PATIENCE))

    @contextmanager
    def meeting(self, step: int, what: str) -> Iterator[None]:
        """Around what all ranks do together: if one of them does not come, `LostRankError` says what was waited for."""
        try:
            yield
        except LostRankError:
            raise
        except RuntimeError as error:
            if not any(words in str(error) for words in _LOST):
                raise
            raise LostRankError(f"step {step}, rank {self.rank}: {what}: {error}") from error

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of `values` over all ranks, on every rank."""
        if self.world_size > 1:
            dist.all_reduce(values, group=self.everyone)
        return values

    def largest(self, values: torch.Tensor) -> torch.Tensor:
        """The largest of each of `values` over all ranks, on every rank."""
        if self.world_size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX, group=self.everyone)
        return values

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, in rank order, on every rank. Values must be picklable and small."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value, group=self.everyone)
        return gathered

    def on_first(self, call: Callable[[], T]) -> T:
        """The result of `call` on rank 0, on every rank; its `UserError` as well, so that none is left waiting."""
        result: T | UserError | None = None
        if self.is_first:
            try:
                result = call()
            except UserError as error:
                result = error
        result = self.from_first(result)
        if isinstance(result, UserError):
            raise result
        return cast(T, result)

    def from_first(self, value: Any) -> Any:
        """The first rank's `value`, on every rank."""
        return self.from_rank(self.first, value)

    def from_rank(self, rank: int, value: Any) -> Any:
        """The `value` of a rank, on every rank. Values must be picklable."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=rank, group=self.everyone)
        return box[0]

    @torch.no_grad()
    def share_first(self, module: nn.Module) -> None:
        """Give every rank rank 0's weights."""
        for tensor in module.state_dict().values() if self.world_size > 1 else ():
            dist.broadcast(tensor, src=self.first, group=self.everyone)

    def barrier(self) -> None:
        """Nobody goes on before everybody has come here."""
        if self.world_size > 1:
            # Read back: NCCL only queues the reduction, and the host would not wait.
            self.sum(torch.zeros(1, device=self.device)).item()

    def close(self) -> None:
        """Leave together: a rank that shuts gloo down while another is still communicating aborts the other."""
        self.barrier()
        dist.destroy_process_group()


def solo_grid(device: torch.device = CPU) -> Grid:
    """One rank that talks to nobody, without a process group."""
    return Grid(torch.zeros(1, 1, dtype=torch.int64), 0, device, None, None, PATIENCE)
