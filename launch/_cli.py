"""What every entry point does with errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from vid2vid_dist.errors import UserError


def run_main(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with its status (None = 0).

    A `UserError` becomes one line on stderr and status 2, without a traceback; Ctrl-C is quiet, status 130.
    Every other exception is ours to mend and keeps its traceback. Under torchrun each rank speaks for
    itself and the line names the rank: torchrun stops the others as soon as the first one has left.
    """
    rank = f"[rank {os.environ['RANK']}] " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    try:
        status = main() or 0
    except UserError as error:
        print(f"{rank}error: {error}", file=sys.stderr, flush=True)
        status = 2
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
