"""The one log format of the program."""

from __future__ import annotations

import logging
import sys


def setup_logging(rank: int) -> None:
    """Log to stdout as `time [rank N] message`: warnings of anybody, and what rank 0 of ours has to say."""
    logging.basicConfig(
        level=logging.WARNING,
        format=f"%(asctime)s [rank {rank}] %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stdout,
        force=True,
    )
    if rank == 0:
        logging.getLogger("vid2vid_dist").setLevel(logging.INFO)
