"""Check everything that the golden data covers and print a table.

    python -m tools.parity --golden ../shared/golden --frames ../shared/cityscapes_example
    python -m tools.parity --only generator/ms3          # kind, or kind/part of the name

Exit status: 0 all within tolerance, 1 a case failed, 2 no such folder.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools.parity.case import Case, Check
from tools.parity.discover import discover, is_covered, module_of

GOLDEN, FRAMES = Path("../shared/golden"), Path("../shared/cityscapes_example")


@dataclass
class Row:
    """One line of the table."""

    case: Case
    checks: list[Check]
    seconds: float
    crash: str = ""

    @property
    def worst(self) -> Check:
        """The check that comes closest to its tolerance, or lies furthest beyond it."""
        return max(self.checks, key=lambda check: (not check.ok, check.error / max(check.tolerance, 1e-300)))

    @property
    def ok(self) -> bool:
        return not self.crash and bool(self.checks) and all(check.ok for check in self.checks)

    def line(self, width: int) -> str:
        """As text; `width`: of the longest name."""
        name = f"{self.case.kind}/{self.case.name}"
        if self.crash or not self.checks:
            return f"{name:{width}}  {'':30}  {self.seconds:5.1f}  FAIL  {self.crash or 'no checks'}"
        worst = self.worst
        result = "ok" if self.ok else f"FAIL  {worst.what}"
        return (f"{name:{width}}  {len(self.checks):6}  {worst.error:11.2e}  {worst.tolerance:9.1e}  "
                f"{self.seconds:5.1f}  {result}")


def check_case(case: Case) -> Row:
    """Run the checks of one case; a crash is a failed row, so that the other cases still run."""
    start = time.perf_counter()
    try:
        checks, crash = module_of(case.kind).check(case), ""
    except Exception as error:
        checks, crash = [], f"{type(error).__name__}: {error}".splitlines()[0]
    return Row(case, checks, time.perf_counter() - start, crash)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.parity", description=__doc__.splitlines()[0])
    parser.add_argument("--golden", type=Path, default=GOLDEN, help=f"folder of the golden data ({GOLDEN})")
    parser.add_argument("--frames", type=Path, default=FRAMES, help=f"frames that data cases read ({FRAMES})")
    parser.add_argument("--only", default="", metavar="KIND[/NAME]", help="just these cases")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    args = parser.parse_args()
    if not args.golden.is_dir():
        print(f"error: no golden data at {args.golden}: pass GOLDEN=folder", file=sys.stderr)
        return 2
    cases = discover(args.golden, args.frames if args.frames.is_dir() else None)
    wanted = [case for case in cases if f"{case.kind}/{case.name}".startswith(args.only)]
    covered = [case for case in wanted if is_covered(case)]
    width = max((len(f"{case.kind}/{case.name}") for case in covered), default=4)
    print(f"{'case':{width}}  checks  {'worst error':>11}  {'tolerance':>9}  {'s':>5}  result")
    failed = 0
    with ProcessPoolExecutor(args.jobs) as pool:
        for row in pool.map(check_case, covered):
            failed += not row.ok
            print(row.line(width), flush=True)
    print(f"{len(covered)} cases, {failed} failed")
    if missing := [case for case in wanted if not is_covered(case)]:
        print("not covered yet: " + ", ".join(f"{case.kind}/{case.name}" for case in missing))
    return int(failed > 0 or not covered)


if __name__ == "__main__":
    sys.exit(main())
