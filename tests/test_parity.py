"""Every golden case that has a module, one test each: the same checks as `make parity`."""

import pytest

from tests.conftest import FRAMES, GOLDEN
from tools.parity.case import Case
from tools.parity.discover import discover, is_covered, module_of

CASES = [case for case in discover(GOLDEN, FRAMES if FRAMES.is_dir() else None) if is_covered(case)]


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no folder {GOLDEN}: set GOLDEN")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}/{case.name}")
def test_case_is_within_tolerance(case: Case) -> None:
    if case.kind == "data" and case.frames is None:
        pytest.skip(f"no folder {FRAMES}: set FRAMES")
    checks = module_of(case.kind).check(case)
    assert checks, "a case without a check proves nothing"
    bad = [f"{check.what}: {check.error:.2e} > {check.tolerance:.1e}" for check in checks if not check.ok]
    assert not bad
