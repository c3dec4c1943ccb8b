"""Look at the machines before a long run: under a minute, nothing is changed.

    torchrun --nproc_per_node 8 -m vid2vid_dist doctor street/512           as the run will be started
    torchrun … -m vid2vid_dist doctor street/512 key=value --json out.json  for scripts

Versions, devices, memory, disk, clocks, links, slow ranks, shards. Exit status 0 = no fault, 1 = at least one
(torchrun then adds a report of its own), 2 = no such configuration.
"""

import argparse
import json
import time
from datetime import timedelta
from pathlib import Path

from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.doctor.examine import examine
from vid2vid_dist.doctor.findings import table
from vid2vid_dist.monitor.logs import setup_logging

PATIENCE = timedelta(seconds=45)  # for a rank that does not come


def main() -> int:
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="configuration file or recipe of the run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings on top of it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings there")
    args = parser.parse_intermixed_args()
    cfg = load_config(args.config, args.overrides)
    grid = open_grid(cfg.run.device, PATIENCE)
    setup_logging(grid.rank)
    with grid.meeting(0, "preflight"):
        checks, findings = examine(cfg, grid)
        seconds = time.monotonic() - started
        if grid.is_first:
            print(f"{table(checks)}\n{grid.world_size} ranks looked at in {seconds:.1f} s", flush=True)
            if args.json:
                args.json.write_text(json.dumps({**findings, "seconds": seconds}, indent=1))
        grid.close()
    return 0 if findings["ok"] else 1
