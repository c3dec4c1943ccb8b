"""Golden training traces with the generator on one rank and all critics on another.

    torchrun --standalone --nproc_per_node 2 -m tools.parity.placed_trace GOLDEN [NAME …]

prints one line per trace, or per trace of these names; exit status 1 if one is out of tolerance.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

from tools.parity.__main__ import Row
from tools.parity.discover import discover
from tools.parity.options import config_of_case
from tools.parity.trace import compare, spread, train
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.cli.ranks import open_grid


def main() -> int:
    golden, wanted = Path(sys.argv[1]), sys.argv[2:]
    grid = open_grid("cpu").in_pipelines(2)
    failed = 0
    for case in discover(golden):
        if case.kind != "trace" or (wanted and case.name not in wanted):
            continue
        started = time.perf_counter()
        cfg = config_of_case(case.options)
        cfg.optim.precision, cfg.optim.backend = "fp64", "plain"
        tensors = case.tensors()
        ours = train(cfg, case.meta, tensors, grid=grid)
        if grid.is_first:
            checks = compare(case, ours, spread(cfg, case.meta, tensors) or ours)
            row = Row(replace(case, kind="placed_trace"), checks, time.perf_counter() - started)
            failed += not row.ok
            print(row.line(28), flush=True)
    grid.close()
    return int(failed > 0)


if __name__ == "__main__":
    run_main(main)
