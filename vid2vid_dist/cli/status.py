"""Say how runs stand, one line each: also of a run that was killed.

    python -m vid2vid_dist status runs/*
    python -m vid2vid_dist status runs/NAME --snapshot kept    its newest checkpoint, to copy or read at leisure
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vid2vid_dist.errors import UserError
from vid2vid_dist.training.snapshot import snapshot
from vid2vid_dist.training.status import tell


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders", metavar="RUN")
    parser.add_argument("--snapshot", type=Path, metavar="DEST",
                        help="folder for the newest checkpoint, as hard links where possible: training never clears "
                             "it away")
    args = parser.parse_args()
    if args.snapshot is not None:
        if len(args.runs) > 1:
            raise UserError("--snapshot takes one run")
        print(snapshot(args.runs[0], args.snapshot))
        return 0
    with ThreadPoolExecutor(len(args.runs)) as pool:  # some are watched for a while
        told = [pool.submit(tell, run) for run in args.runs]
    for line in told:
        error = line.exception()
        print(f"error: {error}" if isinstance(error, UserError) else line.result())
    return 2 if any(line.exception() for line in told) else 0
