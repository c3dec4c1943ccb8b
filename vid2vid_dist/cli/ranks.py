"""Joining the ranks that a launcher has started."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from vid2vid_dist.engine.run.allocator import set_allocator
from vid2vid_dist.engine.run.grid import PATIENCE, Grid
from vid2vid_dist.errors import UserError


def open_grid(device: str = "auto", timeout: timedelta = PATIENCE) -> Grid:
    """Join the ranks that torchrun started (or be the only one) and take a device.

    `device` is "auto", "cpu" or "cuda"; `timeout`: how long ranks wait for each other. Raises `UserError` when there
    is no such device, fewer GPUs than local ranks, or when the rendezvous port is taken.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    my_device = _take_device(device)
    backend = "nccl" if my_device.type == "cuda" else "gloo"
    try:
        if "RANK" in os.environ:
            dist.init_process_group(backend, timeout=timeout)
        else:  # a bare `vid2vid-train`: a world of one needs no port
            os.environ["LOCAL_RANK"] = "0"  # DeepSpeed insists
            alone_store = dist.HashStore()  # type: ignore[attr-defined]
            dist.init_process_group(backend, store=alone_store, rank=0, world_size=1)
    except (dist.DistNetworkError, RuntimeError) as error:
        if "EADDRINUSE" not in str(error) and "address already in use" not in str(error).lower():
            raise
        port = os.environ.get("MASTER_PORT", "?")
        raise UserError(f"port {port} on {os.environ.get('MASTER_ADDR', 'this host')} is taken by another program: "
                        "choose another with `torchrun --master-port PORT …`, or use `torchrun --standalone …`"
                        ) from error
    # Made by this rank without the others: a group per rank that all of them took part in would take minutes on many.
    alone = dist.new_group([rank], use_local_synchronization=True)
    return Grid(torch.arange(world_size).reshape(-1, 1), rank, my_device, dist.group.WORLD, alone, timeout)


def _take_device(device: str) -> torch.device:
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("run.device=cuda, but this process sees no GPU: use run.device=cpu, or check the driver")
    local_rank, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local_rank >= count:
        raise UserError(f"local rank {local_rank} has no GPU of its own (this node shows {count}): "
                        f"start at most --nproc_per_node {count}, or use run.device=cpu")
    set_allocator()
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
