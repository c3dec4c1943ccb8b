"""The golden training traces also pass with generator and critics on ranks of their own."""

import pytest

from tests.conftest import GOLDEN
from tests.torchrun import torchrun
from tools.parity.discover import discover

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no folder {GOLDEN}: set GOLDEN")
SHORTEST = "t6_ttur_decay"


def test_the_shortest_trace_passes_on_two_ranks() -> None:
    result = torchrun(2, "tools/parity/placed_trace.py", str(GOLDEN), SHORTEST)
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("placed_trace/") == result.stdout.count(f"placed_trace/{SHORTEST}") == 1


@pytest.mark.long
def test_every_trace_passes_on_two_ranks() -> None:
    traces = [case.name for case in discover(GOLDEN) if case.kind == "trace"]
    result = torchrun(2, "tools/parity/placed_trace.py", str(GOLDEN), timeout=600)
    assert result.returncode == 0, result.stdout
    for name in traces:
        assert f"placed_trace/{name}" in result.stdout
