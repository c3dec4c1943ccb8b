"""What a rank of a pipeline decodes: what its tasks read, once, from wherever a run goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.spread_clips import SMALL
from tests.training.test_epoch import N_PAST, Videos
from vid2vid_dist.config.load import load_config
from vid2vid_dist.engine.plan.costs import count_costs
from vid2vid_dist.engine.plan.placement import Layout, explicit, split
from vid2vid_dist.engine.plan.planner import Placed, Planner, data_parallel
from vid2vid_dist.engine.plan.schedule import Strategy
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.training.curriculum import Phase
from vid2vid_dist.training.epoch import plan_epoch
from vid2vid_dist.training.planned_steps import EpochPlans, PlannedStep

SPECS = role_specs(load_config(None, [*SMALL, "discriminator.n_scales_temporal=2"]))
CHUNK, LENGTHS = 4, [20, 14, 20, 7, 9]
NOW = Phase(30, CHUNK, 1, True, {})
EPOCH = plan_epoch(Videos(LENGTHS), 1, NOW, 2, 1, N_PAST)  # type: ignore[arg-type]
COSTS = count_costs(SPECS, 32, 64)


def planner(layout: Layout) -> Planner:
    return Planner(SPECS, Placed(layout, 1, 0, COSTS, Strategy(), ()))


# Shared by the tests: planning takes longer than anything else here.
TABLE = planner(explicit(SPECS, "generator=0-1,image=2,temporal_0=3,temporal_1=3,flow=4", 5))
PAIR = planner(split(SPECS, 1, 1))
ALONE = Planner(SPECS, data_parallel(SPECS, 1))


def steps(planned: Planner, slot: int, start: tuple[int, int] = (0, 0), pictured: bool = False) -> list[PlannedStep]:
    walk = EpochPlans(EPOCH, NOW, planned, slot, range(2), lambda step: pictured and step == 2)
    return list(walk.steps(start, 1, flow_ready=False))


def decoded(found: list[PlannedStep], modality: str) -> list[tuple[int, int]]:
    requests = (request for step in found for request in step.requests())
    return [(request.clip.video, i) for request in requests for i in getattr(request, modality)]


@pytest.mark.parametrize("slot", range(5))
def test_no_frame_is_decoded_twice(slot: int) -> None:
    found = steps(TABLE, slot)
    for modality in ("labels", "images"):
        frames = decoded(found, modality)
        assert len(frames) == len(set(frames))


def test_a_rank_decodes_for_its_roles_only() -> None:
    labels, images = ([set(decoded(steps(TABLE, slot), modality)) for slot in range(5)]
                      for modality in ("labels", "images"))
    everything = {(clip.video, i) for r in EPOCH.rounds for lane, clips in enumerate(r.lanes) for clip in clips
                  for i in range(r.chunks[lane] * CHUNK + N_PAST)}
    assert labels[3] == labels[4] == set(), "temporal discriminators and flow see no labels"
    assert labels[2] == {(video, i) for video, i in everything if i >= N_PAST}, "what is generated is judged"
    assert labels[0] | labels[1] == everything
    for frames in (images[0], images[1]):  # each generator rank makes every second frame: its own and the one before
        assert frames < everything
    assert images[4] == {(video, i) for video, i in everything if i >= N_PAST - 1}, "flow begins at the last given one"


@given(st.lists(st.integers(4, 14), min_size=1, max_size=6), st.integers(1, 3), st.integers(1, 2), st.data())
def test_ranks_that_run_whole_lanes_read_every_frame_once(lengths: list[int], n_ranks: int, batch_size: int,
                                                           data: st.DataObject) -> None:
    """In order, also from where a stopped run goes on."""
    epoch = plan_epoch(Videos(lengths), 1, NOW, 2 * n_ranks, batch_size, N_PAST)  # type: ignore[arg-type]
    start = data.draw(st.sampled_from(list(epoch.steps())))
    generated = []
    for rank in range(n_ranks):
        lanes = range(rank, 2 * n_ranks, n_ranks)
        for step in EpochPlans(epoch, NOW, ALONE, 0, lanes, lambda _: False).steps(start, 1, flow_ready=False):
            requests = iter(step.requests())
            for lane in (lane for lane in lanes if epoch.rounds[step.round].is_active(lane, step.chunk)):
                for clip in epoch.rounds[step.round].lanes[lane]:
                    request = next(requests)
                    assert request.clip is clip
                    new = [CHUNK * step.chunk + N_PAST + t for t in range(CHUNK)]
                    assert request.labels[-CHUNK:] == request.images[-CHUNK:] == new
                    assert (step.round, step.chunk) == start or len(request.labels) == CHUNK + N_PAST * (not step.chunk)
                    generated += [(clip.video, i) for i in new]
            assert not list(requests)
    assert len(generated) == len(set(generated)) == CHUNK * sum(
        epoch.rounds[number].n_clips(chunk) for number, chunk in epoch.steps(start))


def test_flow_is_computed_a_step_ahead_within_a_clip() -> None:
    for step in steps(TABLE, 4):
        n_chunks = EPOCH.rounds[step.round].n_chunks
        assert step.shape.flow_ready == (step.chunk > 0)
        assert bool(step.shape.ahead) == (step.chunk + 1 < n_chunks)


def test_a_rank_alone_decodes_everything_and_computes_no_flow_ahead() -> None:
    found = steps(ALONE, 0)
    everything = {(clip.video, i) for r in EPOCH.rounds for lane, clips in enumerate(r.lanes) for clip in clips
                  for i in range(r.chunks[lane] * CHUNK + N_PAST)}
    assert set(decoded(found, "labels")) == set(decoded(found, "images")) == everything
    assert not any(step.shape.ahead or step.shape.flow_ready for step in found)


@pytest.mark.parametrize("start", [(0, 2), (1, 1)])
@pytest.mark.parametrize(("planned", "slot"), [(PAIR, 1), (ALONE, 0)])
def test_a_run_that_goes_on_decodes_again_what_it_looks_back_at(planned: Planner, slot: int, start: tuple[int, int]
                                                                ) -> None:
    whole = steps(planned, slot)
    rest = steps(planned, slot, start)
    whole = whole[len(whole) - len(rest):]
    assert [step.requests() for step in rest[1:]] == [step.requests() for step in whole[1:]]
    first = set(decoded(rest[:1], "images"))
    assert first > set(decoded(whole[:1], "images"))
    assert min(i for _, i in first) >= 0


def test_pictures_need_whole_chunks_on_the_first_slot() -> None:
    """Slot 0 makes every second frame and reads the one before each: for pictures it decodes the last one, too."""
    plain, pictured = (steps(TABLE, 0, pictured=wanted)[1] for wanted in (False, True))
    assert (plain.shown, pictured.shown) == (None, 1)
    assert (pictured.needed[1] - plain.needed[1]).real == {2 * CHUNK - 1}
