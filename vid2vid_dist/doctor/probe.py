"""What the machines of a grid can really do: links between ranks, arithmetic of each rank, and their clocks.

Every function is called by all ranks of the grid at the same time.
"""

import time
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.nn import functional as F

from vid2vid_dist.engine.run.grid import Grid

PAYLOAD = 2**23  # bytes of a message, about that of a frame's feature maps
MESSAGES = 4  # per link; the first opens the connection and is not timed
CONVOLUTIONS = 30
CLOCK_READINGS = 5


@dataclass(frozen=True)
class Link:
    """A way from rank to rank and what went over it, in bytes per second."""

    source: int
    destination: int
    bandwidth: float


def rounds(edges: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """The edges (source, destination) in groups in which no rank occurs twice: those of a group run at a time."""
    groups: list[list[tuple[int, int]]] = []
    for edge in edges:
        free = (group for group in groups if not any(set(edge) & set(other) for other in group))
        group = next(free, None)
        if group is None:
            groups.append([edge])
        else:
            group.append(edge)
    return groups


def measure_links(grid: Grid, edges: list[tuple[int, int]]) -> list[Link]:
    """The bandwidth of each edge (source, destination), on every rank."""
    mine: list[Link] = []
    payload = torch.ones(PAYLOAD // 4, device=grid.device)
    for group in rounds(edges):
        grid.barrier()
        for source, destination in group:
            if grid.rank == source:
                mine.append(Link(source, destination, _send(payload, destination)))
            elif grid.rank == destination:
                _receive(payload, source)
    return [link for of_rank in grid.gather(mine) for link in of_rank]


def _send(payload: torch.Tensor, peer: int) -> float:
    """Bytes per second; each message is answered by one number, so that it is known to have come."""
    answer = torch.empty(1, device=payload.device)
    started = 0.0
    for number in range(MESSAGES):
        if number == 1:
            started = time.perf_counter()
        dist.send(payload, peer)
        dist.recv(answer, peer)
        answer.item()  # NCCL only queues
    return (MESSAGES - 1) * PAYLOAD / (time.perf_counter() - started)


def _receive(payload: torch.Tensor, peer: int) -> None:
    for _ in range(MESSAGES):
        dist.recv(payload, peer)
        dist.send(payload[-1:], peer)


def convolution_seconds(grid: Grid) -> list[float]:
    """The time of a small convolution by rank, the best of some: what a rank can do when nothing disturbs it."""
    x = torch.ones(1, 32, 64, 128, device=grid.device)
    weight = torch.ones(32, 32, 3, 3, device=grid.device)
    F.conv2d(x, weight, padding=1).sum().item()
    grid.barrier()
    seconds = []
    for _ in range(CONVOLUTIONS):
        started = time.perf_counter()
        F.conv2d(x, weight, padding=1)[0, 0, 0, 0].item()
        seconds.append(time.perf_counter() - started)
    return grid.gather(min(seconds))


def clock_offsets(grid: Grid) -> list[float]:
    """Seconds by which each rank's clock is ahead of rank 0's, to about the time of a small message."""
    readings = []
    for _ in range(CLOCK_READINGS):
        grid.barrier()  # all leave it within the time of a message
        times = grid.gather(time.time())
        readings.append([now - times[0] for now in times])
    return [min(of_rank, key=abs) for of_rank in zip(*readings, strict=True)]
