"""The one log format of the program."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


def setup_logging(rank: int) -> None:
    """Log to stdout as `time [rank N] message`: warnings from anywhere, and this program's information from rank 0."""
    logging.raiseExceptions = False  # a terminal that is gone or full costs lines, and gets no traceback
    logging.basicConfig(level=logging.WARNING, format=f"%(asctime)s [rank {rank}] %(message)s", datefmt="%H:%M:%S",
                        stream=sys.stdout, force=True)
    if rank == 0:
        logging.getLogger("vid2vid_dist").setLevel(logging.INFO)


@contextmanager
def nonfatal(what: str) -> Iterator[None]:
    """Around output that a run can do without: a disk error (full, read-only) is logged, and the run goes on."""
    try:
        yield
    except OSError as error:
        log.error("%s cannot be written (%s), which does not stop the run: free some space, or check the disk",
                  what, error)
