"""Planning takes time that grows as the step grows."""

from __future__ import annotations

import pytest

from tests.engine.plans import street_costs
from tools.bench_scaling import Step, exponent, planning_seconds


def test_the_exponent_is_the_slope() -> None:
    assert exponent([10, 100, 1000], [1.0, 10.0, 100.0]) == pytest.approx(1.0)
    assert exponent([10, 100, 1000], [1.0, 100.0, 10000.0]) == pytest.approx(2.0)


@pytest.mark.parametrize("steps", [(Step(4, 4, 6), Step(64, 64, 6)), (Step(8, 1, 30), Step(8, 1, 480))])
def test_planning_is_near_linear_in_tasks(steps: tuple[Step, ...]) -> None:
    """Roughly: other work on the machine shows too. Before, both were beyond 1.5."""
    specs, costs = street_costs(512)
    measured = [min(planning_seconds(specs, costs, step) for _ in range(3 - 2 * (step.n_ranks > 8))) for step in steps]
    sizes, seconds = (list(column) for column in zip(*measured, strict=True))
    assert sizes[-1] > 10 * sizes[0]
    assert exponent(sizes, seconds) < 1.35
