"""The original's schedule as it is known, and what plans gain over it: the street recipes."""

import pytest

from tests.engine.plans import street_costs
from tools.bench_plan import N_RANKS, RECIPES
from vid2vid_dist.engine.plan.search import PlanRequest, choose
from vid2vid_dist.monitor.serial_schedule import serial_seconds

# Speed-up over the serial schedule on 8 ranks that a plan must reach: by size, lanes and placement.
TARGETS = [
    (512, 1, "split", 2.2), (512, 4, "split", 3.9), (512, 4, "colocated", 4.7),
    (1024, 1, "split", 2.3), (1024, 4, "split", 4.1), (1024, 4, "colocated", 4.9),
    (2048, 1, "split", 3.5), (2048, 4, "split", 4.8), (2048, 4, "colocated", 5.5),
]


def serial(size: int, n_lanes: int) -> float:
    specs, costs = street_costs(size)
    recipe = RECIPES[size]
    return serial_seconds(specs.cfg, costs, n_lanes, recipe.n_frames, recipe.n_generator, N_RANKS - recipe.n_generator)


@pytest.mark.parametrize("size", list(RECIPES))
def test_serial_schedule_takes_the_known_time(size: int) -> None:
    known = RECIPES[size].known_serial
    assert {n: 1e3 * serial(size, n) for n in known} == pytest.approx(known, rel=0.02)


@pytest.mark.parametrize(("size", "lanes", "placement", "target"), TARGETS)
def test_speed_up(size: int, lanes: int, placement: str, target: float) -> None:
    specs, costs = street_costs(size)
    choice = choose(specs, costs, PlanRequest(N_RANKS, lanes, RECIPES[size].n_frames, placement))
    assert serial(size, lanes) / choice.prediction.period >= target
