"""Clips over lanes: an epoch is the same set of clips for any number of ranks, lanes and clips per lane."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vid2vid_dist.data.clips import Clip
from vid2vid_dist.data.geometry import Geometry
from vid2vid_dist.data.sampling import epoch_order, window
from vid2vid_dist.training.curriculum import Phase
from vid2vid_dist.training.epoch import Epoch, plan_epoch

N_PAST = 2


@dataclass
class Videos:
    """The part of a `ClipSource` that lays an epoch out: videos of so many frames."""

    lengths: list[int]

    def order(self, epoch: int) -> list[int]:
        return epoch_order(0, epoch, len(self.lengths))

    def n_chunks(self, epoch: int, n_frames_total: int, chunk_frames: int) -> np.ndarray:
        return np.array([self.clip(epoch, number, n_frames_total, chunk_frames).n_chunks
                         for number in range(len(self.lengths))])

    def clip(self, epoch: int, number: int, n_frames_total: int, chunk_frames: int) -> Clip:
        frames = window(self.lengths[number], n_frames_total, chunk_frames, N_PAST + 1, 1, 0, 0)
        return Clip(number, str(number), frames, Geometry((64, 32)))


def plan(lengths: list[int], n_lanes: int, batch_size: int, chunk: int = 2, total: int = 9) -> Epoch:
    now = Phase(total, chunk, 1, True, {})
    return plan_epoch(Videos(lengths), 3, now, n_lanes, batch_size, N_PAST)  # type: ignore[arg-type]


lengths = st.lists(st.integers(4, 14), min_size=1, max_size=12)


@given(lengths, st.integers(1, 6), st.integers(1, 3))
def test_every_clip_runs_exactly_once(lengths: list[int], n_lanes: int, batch_size: int) -> None:
    epoch = plan(lengths, n_lanes, batch_size)
    numbers = [clip.video for r in epoch.rounds for lane in r.lanes for clip in lane]
    assert sorted(numbers) == list(range(len(lengths)))
    for r in epoch.rounds:
        assert len(r.lanes) == n_lanes
        assert all(len(lane) <= batch_size for lane in r.lanes)
        assert any(r.lanes)
    assert all(all(r.lanes) for r in epoch.rounds[:-1])  # only the last round may let lanes rest


@given(lengths, st.integers(1, 6), st.integers(1, 3))
def test_every_step_has_work_and_counts_its_clips(lengths: list[int], n_lanes: int, batch_size: int) -> None:
    epoch = plan(lengths, n_lanes, batch_size)
    steps = list(epoch.steps())
    assert len(steps) == len(set(steps)) == epoch.n_steps
    assert steps == sorted(steps)
    for number, chunk in steps:
        r = epoch.rounds[number]
        active = [lane for lane in range(n_lanes) if r.is_active(lane, chunk)]
        assert r.n_clips(chunk) == sum(len(r.lanes[lane]) for lane in active) > 0
        assert all(clip.n_chunks > chunk for lane in active for clip in r.lanes[lane])


@given(lengths, st.integers(1, 6), st.integers(1, 3))
def test_the_fullest_round_has_most_clips_then_most_chunks(lengths: list[int], n_lanes: int, batch_size: int) -> None:
    epoch = plan(lengths, n_lanes, batch_size)
    sizes = [(r.n_clips(0), r.n_chunks) for r in epoch.rounds]
    assert sizes[epoch.fullest_round()] == max(sizes)


def test_a_clip_alone_in_its_lane_runs_to_its_end() -> None:
    epoch = plan([4, 14, 8], n_lanes=3, batch_size=1)
    assert {lane[0].video: epoch.rounds[0].chunks[i] for i, lane in enumerate(epoch.rounds[0].lanes)} == {
        0: 1, 1: 4, 2: 3}  # 2, 9 and 6 frames to generate, two a chunk
    assert [epoch.rounds[0].n_clips(chunk) for chunk in range(4)] == [3, 2, 2, 1]


def test_clips_that_share_a_lane_end_with_the_shortest() -> None:
    epoch = plan([4, 14, 8], n_lanes=1, batch_size=3)
    assert epoch.n_steps == epoch.rounds[0].chunks[0] == 1


def test_a_last_round_keeps_as_many_lanes_busy_as_it_can() -> None:
    (r,) = plan([10] * 3, n_lanes=4, batch_size=2).rounds
    assert [len(lane) for lane in r.lanes] == [1, 1, 1, 0]
