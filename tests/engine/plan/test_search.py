"""Which plan is chosen, why, and what is refused."""

from dataclasses import replace

import pytest

from tests.engine.plans import made_up_costs, specs_of
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.search import PlanRequest, choose
from vid2vid_dist.engine.plan.tasks import CostKey, Kind
from vid2vid_dist.errors import UserError

SPECS = specs_of(loss__no_vgg=True, discriminator__n_scales_temporal=1)
COSTS = made_up_costs(SPECS)
SYNTHESIS = CostKey("generator", Kind.SYNTHESIS)


def test_data_parallel_where_there_are_clips_enough() -> None:
    choice = choose(SPECS, COSTS, PlanRequest(n_ranks=4, n_lanes=4, n_frames=3))
    assert choice.plan.layout.n_slots == 1
    assert choice.n_pipelines == 4
    assert "without sharing clips" in choice.reason


def test_a_pipeline_where_clips_are_few() -> None:
    choice = choose(SPECS, COSTS, PlanRequest(n_ranks=4, n_lanes=1, n_frames=4))
    assert choice.plan.layout.n_slots == 4
    assert choice.n_pipelines == 1
    assert "data parallel would take" in choice.reason


def test_with_fewer_lanes_than_ranks_data_parallel_takes_as_long_as_with_one_each() -> None:
    one, four = (choose(SPECS, COSTS, PlanRequest(4, lanes, 3, "data_parallel")) for lanes in (1, 4))
    assert (one.n_pipelines, one.lanes, one.in_flight) == (four.n_pipelines, four.lanes, four.in_flight) == (4, 1, 1)
    assert one.prediction.period == four.prediction.period
    many = choose(SPECS, COSTS, PlanRequest(4, 12, 3, "data_parallel"))
    assert many.prediction.period > 2 * one.prediction.period
    assert (many.lanes, many.memory[0].live_frames) == (3, one.memory[0].live_frames), "lane after lane"


def test_split_searches_the_numbers_of_ranks() -> None:
    heavy = replace(COSTS, measured={SYNTHESIS: 1.0, CostKey("generator", Kind.SYNTHESIS_BACKWARD): 3.0})
    assert choose(SPECS, heavy, PlanRequest(4, 2, 4, "split", n_pipelines=1)).plan.layout.name == "split 3G+1D"
    light = replace(COSTS, measured={key: 1.0 for key in COSTS.work if key.role == "image"})
    assert choose(SPECS, light, PlanRequest(4, 2, 4, "split", n_pipelines=1)).plan.layout.name == "split 1G+3D"


def test_short_memory_takes_fewer_lanes_at_a_time() -> None:
    request = PlanRequest(n_ranks=2, n_lanes=4, n_frames=3, placement="colocated", n_pipelines=1)
    roomy = choose(SPECS, COSTS, request)
    tight = choose(SPECS, COSTS, replace(request, memory=0.9 * roomy.peak))
    assert tight.in_flight < roomy.in_flight == 4
    assert tight.fits(0.9 * roomy.peak)
    assert "nothing fits" in choose(SPECS, COSTS, replace(request, memory=1.0)).reason


@pytest.mark.parametrize(("wanted", "says"), [
    (PlanRequest(8, 2, 4, "split:6+1"), r"nearest is split:6\+2"),
    (PlanRequest(4, 2, 4, "split:0+4", n_pipelines=1), r"at least one of each kind.*nearest is split:1\+3"),
    (PlanRequest(1, 1, 4, "split:1+1"), "use colocated"),
    (PlanRequest(8, 2, 4, "split:x+1"), r"like split:6\+2"),
    (PlanRequest(1, 1, 4, "split"), "at least 2 ranks"),
    (PlanRequest(8, 2, 4, "spilt"), "write auto, split"),
    (PlanRequest(8, 2, 4, n_pipelines=3), "nearest is 2 of 4 ranks"),
    (PlanRequest(8, 3, 4, n_pipelines=2), "nearest is 4 lanes"),
])
def test_what_cannot_be_is_refused_with_the_nearest(wanted: PlanRequest, says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose(SPECS, COSTS, wanted)


def test_a_given_split_is_repeated_on_more_ranks() -> None:
    assert choose(SPECS, COSTS, PlanRequest(4, 2, 3, "split:1+1")).n_pipelines == 2


def test_measured_times_change_the_plan() -> None:
    slow: Costs = replace(COSTS, measured={SYNTHESIS: 1.0})
    request = PlanRequest(2, 1, 4, "split:1+1")
    assert choose(SPECS, slow, request).prediction.period > 4.0 > choose(SPECS, COSTS, request).prediction.period
