"""Which plan is chosen, why, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.engine.plans import config, made_up_costs
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.search import PlanRequest, choose
from vid2vid_dist.errors import UserError

CFG = config(loss__no_vgg=True, discriminator__n_scales_temporal=1)
COSTS = made_up_costs(CFG)


def test_data_parallel_where_there_are_clips_enough() -> None:
    choice = choose(CFG, COSTS, PlanRequest(n_ranks=4, n_lanes=4, n_frames=3))
    assert choice.plan.layout.lane_bound or choice.plan.layout.n_slots == 1
    assert "without sharing clips" in choice.reason


def test_a_pipeline_where_clips_are_few() -> None:
    choice = choose(CFG, COSTS, PlanRequest(n_ranks=4, n_lanes=1, n_frames=4))
    assert not choice.plan.layout.lane_bound
    assert choice.n_pipelines == 1
    assert "data parallel would take" in choice.reason


def test_split_searches_the_numbers_of_ranks() -> None:
    heavy = replace(COSTS, measured={"synthesis/0": 1.0, "backward/0": 3.0})
    assert choose(CFG, heavy, PlanRequest(4, 2, 4, "split", n_pipelines=1)).plan.layout.name == "split 3G+1D"
    light = replace(COSTS, measured={key: 1.0 for key in COSTS.work if key.startswith("image")})
    assert choose(CFG, light, PlanRequest(4, 2, 4, "split", n_pipelines=1)).plan.layout.name == "split 1G+3D"


def test_short_memory_takes_fewer_lanes_at_a_time() -> None:
    request = PlanRequest(n_ranks=1, n_lanes=4, n_frames=3, placement="colocated")
    roomy = choose(CFG, COSTS, request)
    tight = choose(CFG, COSTS, replace(request, memory=0.9 * roomy.peak))
    assert tight.in_flight < roomy.in_flight == 4
    assert tight.fits(0.9 * roomy.peak)
    assert "nothing fits" in choose(CFG, COSTS, replace(request, memory=1.0)).reason


@pytest.mark.parametrize(("wanted", "says"), [
    (PlanRequest(8, 2, 4, "split:6+1"), r"nearest is split:6\+2"),
    (PlanRequest(1, 1, 4, "split:1+1"), "use colocated"),
    (PlanRequest(8, 2, 4, "split:x+1"), r"like split:6\+2"),
    (PlanRequest(1, 1, 4, "split"), "at least 2 ranks"),
    (PlanRequest(8, 2, 4, "spilt"), "write auto, split"),
    (PlanRequest(8, 2, 4, n_pipelines=3), "nearest is 2 of 4 ranks"),
    (PlanRequest(8, 3, 4, n_pipelines=2), "nearest is 4 lanes"),
])
def test_what_cannot_be_is_refused_with_the_nearest(wanted: PlanRequest, says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose(CFG, COSTS, wanted)


def test_measured_times_change_the_plan() -> None:
    slow: Costs = replace(COSTS, measured={"synthesis/0": 1.0})
    request = PlanRequest(2, 1, 4, "split:1+1")
    assert choose(CFG, slow, request).prediction.period > 4.0 > choose(CFG, COSTS, request).prediction.period
