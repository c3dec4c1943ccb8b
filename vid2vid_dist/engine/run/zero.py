"""Shards of a role's optimiser by DeepSpeed ZeRO. This file is all that knows DeepSpeed.

What the settings buy, and the traps that they avoid:
* gradients are ours (`Gradients`), laid out as DeepSpeed's flat weights: a bucket is reduced once, in place, and ranks
  may run different numbers of backward passes, in any order between point-to-point messages. DeepSpeed's way, hooks on
  every parameter, copies each into a bucket and out of it, and reads figures of each with `offload`.
* they are summed, not averaged: unequal numbers of clips per rank stay exact.
* a client `torch.optim.Adam`: the configuration's "Adam" means AdamW.
* forwards go through `engine.module`: the engine's own forward installs hooks that allow one backward only.
* checkpoints are ours (`optimizer_state`): DeepSpeed's writes `latest` before all ranks have finished, under barriers
  of the whole world, pickled, and for one number of ranks only.
"""

import logging
import os
import warnings
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from vid2vid_dist.config.schema import OptimConfig
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.optimizer import MakeOptimizer, Shard
from vid2vid_dist.engine.run.optimizer_state import Owned

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # otherwise DeepSpeed probes for other accelerators, loudly

import deepspeed
import deepspeed.ops

logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
# An inference-only all-reduce that DeepSpeed would compile with g++ at the first initialize (25 s).
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

# DeepSpeed calls collectives by names that torch has meanwhile renamed; every step would say so.
warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)


def _ranks(grid: Grid) -> SimpleNamespace:
    """What DeepSpeed asks of a model-parallel unit, for a role that is replicated over the ranks of `grid`.

    The model-parallel group must be a real group holding this rank only: None would mean all ranks.
    """
    ranks = sorted(grid.ranks.flatten().tolist())
    return SimpleNamespace(
        get_data_parallel_group=lambda: grid.everyone, get_data_parallel_group_ranks=lambda: ranks,
        get_data_parallel_rank=lambda: ranks.index(grid.rank), get_data_parallel_world_size=lambda: len(ranks),
        get_model_parallel_group=lambda: grid.alone, get_model_parallel_rank=lambda: 0,
        get_model_parallel_world_size=lambda: 1)


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


def zero_shard(module: nn.Module, make_optimizer: MakeOptimizer, optim: OptimConfig, grid: Grid,
               buckets: list[list[nn.Parameter]]) -> Shard:
    """A rank's part of fp32 master weights and Adam moments, by a DeepSpeed engine over all ranks of the role."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=make_optimizer([p for bucket in buckets for p in bucket]),
            config=_settings(optim),
            mpu=_ranks(grid),
            dist_init_required=False,
        )
    optimizer = engine.optimizer
    (weights,), (master,) = optimizer.bit16_groups_flat, optimizer.single_partition_of_fp32_groups
    return Shard(
        buckets, weights, master, optimizer.optimizer, _owned(module),
        close=engine.destroy,  # its hooks lie on autograd nodes, where no garbage collector finds the cycle
        publish=optimizer.update_lp_params,
        number=dist.get_rank(grid.everyone), n_parts=grid.world_size,
        scatters=optim.zero_stage == 2 and grid.world_size > 1)


def _owned(module: nn.Module) -> list[Owned]:
    """What of each parameter lies in the shard, by the map that DeepSpeed keeps for its Universal Checkpoint."""
    found = []
    for name, p in module.named_parameters():
        mapping = getattr(p, "_hp_mapping", None)  # None: this parameter lies in other ranks' shards
        if mapping is not None:
            part, place = mapping.lp_fragment_address, mapping.hp_fragment_address
            found.append(Owned(name, part.start, part.numel, place.start))
    return found
