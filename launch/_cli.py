"""How every entry point ends."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vid2vid_dist.errors import UserError


def run_main(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with its status (None = 0).

    A `UserError` becomes one line on stderr and status 2, without a traceback; Ctrl-C is quiet, status 130.
    Every other exception is ours to mend and keeps its traceback.
    """
    try:
        status = main() or 0
    except UserError as error:
        _report(f"error: {error}")
        status = 2
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _report(message: str) -> None:
    """Print the message; under torchrun once per node, and again in torchrun's own report."""
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        # Most mistakes are made by all ranks alike: torchrun ends this one once the first has left.
        time.sleep(2)
        message = f"[rank {os.environ['RANK']}] {message}"
    print(message, file=sys.stderr, flush=True)
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        told = {"message": message, "timestamp": int(time.time())}
        Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(told))
