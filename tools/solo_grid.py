"""One process as a grid of its own, for benchmarks, parity and tests."""

import torch

from vid2vid_dist.engine.run.grid import PATIENCE, Grid


def solo_grid() -> Grid:
    """One CPU rank without a process group: enough for the plain backend."""
    return Grid(torch.zeros(1, 1, dtype=torch.int64), 0, torch.device("cpu"), None, None, PATIENCE)
