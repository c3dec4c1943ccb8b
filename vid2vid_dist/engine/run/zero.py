"""One DeepSpeed ZeRO engine per role. This file is all that knows DeepSpeed.

What the settings buy, and the traps that they avoid:
* gradients are ours (`Gradients`), laid out as DeepSpeed's flat weights: a step has one reduction, in place, and ranks
  may run different numbers of backward passes, in any order between point-to-point messages. DeepSpeed's way, hooks on
  every parameter, copies each into a bucket and out of it, and reads figures of each with `offload`.
* they are summed, not averaged: unequal numbers of clips per rank stay exact.
* a client `torch.optim.Adam`: the configuration's "Adam" means AdamW.
* forwards go through `engine.module`: the engine's own forward installs hooks that allow one backward only.
* checkpoints are ours (`optimizer_state`): DeepSpeed's writes `latest` before all ranks have finished, under barriers
  of the whole world, pickled, and for one number of ranks only.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vid2vid_dist.config.schema import OptimConfig
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.optimizer import (
    Gradients,
    MakeOptimizer,
    Statistics,
    Tensors,
    descend,
    norm,
    shorten,
    trained_parameters,
)
from vid2vid_dist.engine.run.optimizer_state import Owned, SavedPieces, pieces

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # otherwise DeepSpeed probes for other accelerators, loudly

import deepspeed
import deepspeed.ops

logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
# An inference-only all-reduce that DeepSpeed would compile with g++ at the first initialize (25 s).
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

# DeepSpeed calls collectives by names that torch has meanwhile renamed; every step would say so.
warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)


class _DataParallelRanks:
    """What DeepSpeed asks of a model-parallel unit, for a role that is replicated over the ranks of `grid`.

    The model-parallel group must be a real group holding this rank only: None would mean all ranks.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def get_data_parallel_group(self) -> Any:
        return self._grid.everyone

    def get_data_parallel_rank(self) -> int:
        return self.get_data_parallel_group_ranks().index(self._grid.rank)

    def get_data_parallel_world_size(self) -> int:
        return self._grid.world_size

    def get_data_parallel_group_ranks(self) -> list[int]:
        return sorted(self._grid.ranks.flatten().tolist())

    def get_model_parallel_group(self) -> Any:
        return self._grid.alone

    def get_model_parallel_rank(self) -> int:
        return 0

    def get_model_parallel_world_size(self) -> int:
        return 1


def _settings(optim: OptimConfig) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,  # bookkeeping only: accumulation is ours
        "gradient_accumulation_steps": 1,
        "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": optim.precision == "bf16"},
        "zero_optimization": {
            "stage": optim.zero_stage,
            "overlap_comm": False,
            "contiguous_gradients": False,
            **({"offload_optimizer": {"device": "cpu", "pin_memory": torch.cuda.is_available()}}
               if optim.offload else {}),
        },
        "zero_force_ds_cpu_optimizer": False,  # torch's Adam steps on the host too; DeepSpeed's would be compiled first
    }


class ZeroEngine:
    """A DeepSpeed engine over all ranks that hold the role; fp32 master weights and Adam moments are sharded."""

    def __init__(self, module: nn.Module, make_optimizer: MakeOptimizer, optim: OptimConfig, grid: Grid) -> None:
        parameters = trained_parameters(module)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._engine, *_ = deepspeed.initialize(
                model=module,
                optimizer=make_optimizer(parameters),
                config=_settings(optim),
                mpu=_DataParallelRanks(grid),
                dist_init_required=False,
            )
        self.module, self._statistics, self._grid = module, Statistics(module), grid
        (weights,) = self._engine.optimizer.bit16_groups_flat
        self._gradients = Gradients(parameters, weights)
        self._mine = self._gradients.flat.chunk(grid.world_size)[dist.get_rank(grid.everyone)]
        self._scatters = optim.zero_stage == 2 and grid.world_size > 1
        self._clip_norm = optim.clip_norm
        self.update_norm = self._norm_before = torch.tensor(math.nan)

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        self._statistics.keep()
        self._gradients.flat.zero_()
        yield
        self._statistics.count()
        self.gradient_norm = self._gradients.norm()
        if self._scatters:
            dist.reduce_scatter_tensor(self._mine, self._gradients.flat, group=self._grid.everyone)
        else:
            self._grid.sum(self._gradients.flat)

    def backward(self, outputs: Tensors, gradients: Tensors | None = None,
                 leaves: Sequence[Tensor] = ()) -> Sequence[Tensor | None]:
        return self._gradients.add(outputs, gradients, leaves)

    def step(self, refused: Tensor | None = None) -> None:
        self._norm_before, self.update_norm = self.update_norm, self._norm()
        shorten(self._mine, self.update_norm, self._clip_norm)
        master, adam = self._shard_and_optimizer()
        master.grad = self._mine.to(master.device, master.dtype)
        descend(adam, None if refused is None else refused.to(master.device))
        master.grad = None
        self._engine.optimizer.update_lp_params()

    def _norm(self) -> Tensor:
        """Of the reduced gradients, of which every rank has those of its shard, or all."""
        if not self._scatters:
            return self.gradient_norm if self._grid.world_size == 1 else self._gradients.norm()
        return self._grid.sum(norm(self._mine.split(2**20)).square()).sqrt()

    def discard(self) -> None:
        self.update_norm = self._norm_before
        self._statistics.put_back()

    def set_lr(self, lr: float) -> None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr

    def state(self) -> dict[str, Tensor]:
        master, adam = self._shard_and_optimizer()
        return pieces(self._owned(), master, adam.state[master])

    def restore(self, saved: SavedPieces) -> None:
        master, adam = self._shard_and_optimizer()
        saved.restore(self._owned(), master, adam.state[master])

    def _shard_and_optimizer(self) -> tuple[Tensor, torch.optim.Optimizer]:
        """This rank's part of the fp32 master weights, one flat tensor, and what updates it."""
        optimizer = self._engine.optimizer
        (master,) = optimizer.single_partition_of_fp32_groups
        return master, optimizer.optimizer

    def _owned(self) -> list[Owned]:
        """What of each parameter lies in the shard, by the map that DeepSpeed keeps for its Universal Checkpoint."""
        found = []
        for name, p in self.module.named_parameters():
            mapping = getattr(p, "_hp_mapping", None)  # None: this parameter lies in other ranks' shards
            if mapping is not None:
                part, place = mapping.lp_fragment_address, mapping.hp_fragment_address
                found.append(Owned(name, part.start, part.numel, place.start))
        return found

    def close(self) -> None:
        # Its hooks lie on autograd nodes, where no garbage collector finds the cycle: it would live for ever.
        self._engine.destroy()
