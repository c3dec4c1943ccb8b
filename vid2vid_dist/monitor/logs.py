"""The one log format of the program."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


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


@contextmanager
def spared(what: str) -> Iterator[None]:
    """Around what is written to be looked at: a full disk, or one that has become read-only, costs it, not the run."""
    try:
        yield
    except OSError as error:
        log.error("%s cannot be written (%s), which does not stop the run: make room, or mend the disk", what, error)
