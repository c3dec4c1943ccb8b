"""One DeepSpeed ZeRO engine per role. This file is all that knows DeepSpeed.

What the settings buy, and the traps that they avoid:
* `coalesce_grad_reduction`: backward passes only accumulate, one reduction per step. Ranks may run different
  numbers of backward passes, in any order between point-to-point messages.
* `gradient_allreduce_op: sum`: unequal numbers of clips per rank stay exact.
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
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from vid2vid_dist.config.schema import OptimConfig
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.optimizer import (
    MakeOptimizer,
    Statistics,
    fill_missing_gradients,
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
        "gradient_allreduce_op": "sum",
        # Ours where it can be: DeepSpeed's waits for the norm. Its own default is a norm of 1.
        "gradient_clipping": optim.clip_norm if optim.offload else 0.0,
        "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True,
        # What the host would wait for the GPU to say, again and again: ours say it once per step.
        "timers": {"throughput": {"enabled": False}},
        "bf16": {"enabled": optim.precision == "bf16", "check_grad_overflow": False},
        "zero_optimization": {
            "stage": optim.zero_stage,
            "compute_grad_norm": optim.offload,  # with offload there is no leaving it out
            "overlap_comm": False,
            "contiguous_gradients": True,
            "reduce_scatter": True,
            "reduce_bucket_size": 50_000_000,  # elements
            "allgather_bucket_size": 50_000_000,
            **({"offload_optimizer": {"device": "cpu"}} if optim.offload else {}),
        },
        "zero_force_ds_cpu_optimizer": False,  # torch's Adam steps on the host too; DeepSpeed's would be compiled first
    }


class ZeroEngine:
    """A DeepSpeed engine over all ranks that hold the role; fp32 master weights and Adam moments are sharded."""

    def __init__(self, module: nn.Module, make_optimizer: MakeOptimizer, optim: OptimConfig, grid: Grid) -> None:
        self._parameters = trained_parameters(module)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._engine, *_ = deepspeed.initialize(
                model=module,
                optimizer=make_optimizer(self._parameters),
                config=_settings(optim),
                mpu=_DataParallelRanks(grid),
                dist_init_required=False,
            )
        self.module, self._statistics, self._grid = module, Statistics(module), grid
        self._offloads, self._clip_norm = optim.offload, optim.clip_norm
        self.update_norm: float | torch.Tensor = math.nan

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        # Left only after success: DeepSpeed reduces on every way out, and a rank that failed would wait in there for
        # ranks that wait for it. It is kept, because the garbage collector would leave it too.
        self._statistics.keep()
        self._accumulation = self._engine.coalesce_grad_reduction()
        self._accumulation.__enter__()
        yield
        self.gradient_norm = fill_missing_gradients(self._parameters)
        self._accumulation.__exit__(None, None, None)

    def backward(self, loss: torch.Tensor) -> None:
        self._engine.backward(loss)

    def step(self) -> None:
        if not self._offloads:
            mine = self._gradients()
            self.update_norm = self._norm(mine)
            shorten(mine, self.update_norm, self._clip_norm)
        self._engine.step()
        if self._offloads:
            self.update_norm = self._engine.get_global_grad_norm()

    def _gradients(self) -> list[torch.Tensor]:
        """The reduced ones of this rank's shard."""
        return [x for x in self._engine.optimizer.averaged_gradients[0] or () if not getattr(x, "_zero_padding", False)]

    def _norm(self, mine: list[torch.Tensor]) -> torch.Tensor:
        """Of the reduced gradients, of which every rank has those of its shard."""
        norms = torch._foreach_norm(mine, 2, torch.float32) if mine else [self.gradient_norm.new_zeros(()).float()]
        return self._grid.sum(torch.stack(norms).square().sum()).sqrt()

    def discard(self) -> None:
        # As DeepSpeed does where it finds an overflow of its own: what it has reduced would be added to the next step.
        optimizer = self._engine.optimizer
        optimizer.zero_grad()
        optimizer.averaged_gradients = dict.fromkeys(optimizer.averaged_gradients)
        optimizer.all_grad_tensors = dict.fromkeys(optimizer.all_grad_tensors)
        optimizer.micro_step_id = -1
        self._statistics.put_back()

    def set_lr(self, lr: float) -> None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr

    def state(self) -> dict[str, torch.Tensor]:
        master, adam = self._shard()
        return pieces(self._owned(), master, adam)

    def restore(self, saved: SavedPieces) -> None:
        master, adam = self._shard()
        saved.restore(self._owned(), master, adam)

    def _shard(self) -> tuple[torch.Tensor, dict[str, Any]]:
        """This rank's part of the fp32 master weights, one flat tensor, and Adam's state of it."""
        optimizer = self._engine.optimizer
        (master,) = optimizer.single_partition_of_fp32_groups
        return master, optimizer.optimizer.state[master]

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
