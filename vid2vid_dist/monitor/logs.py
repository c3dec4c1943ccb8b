"""The one log format of the program."""

from __future__ import annotations

import logging
import sys


def setup_logging(rank: int) -> None:
    """Log to stdout as `time [rank N] message`: rank 0 from INFO, other ranks from WARNING upwards."""
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format=f"%(asctime)s [rank {rank}] %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stdout,
        force=True,
    )
