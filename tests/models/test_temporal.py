"""Temporal groups against worked examples and a buffer that is moved by hand."""

from collections.abc import Iterator

import pytest

from vid2vid_dist.config.schema import DiscriminatorConfig
from vid2vid_dist.models.temporal import TemporalGroups, frames_kept, temporal_plan

Row = dict[int, int]
Plan = tuple[TemporalGroups, ...]


def replay(chunks: list[int], n_frames_D: int = 3, n_scales_temporal: int = 3,
           sparse: bool = False) -> Iterator[tuple[Row, Plan]]:
    """Per chunk (sizes given): the numbers of kept and new frames, counted from the first new one, and the plan."""
    disc = DiscriminatorConfig(n_frames_D=n_frames_D, n_scales_temporal=n_scales_temporal, sparse_D=sparse)
    buffer: list[int] = []
    n_seen = 0
    for n_new in chunks:
        row = [*buffer, *range(n_seen, n_seen + n_new)]
        yield dict(enumerate(row, -len(buffer))), temporal_plan(disc, n_seen, n_new)
        n_seen += n_new
        buffer = row[len(row) - frames_kept(disc, n_seen):]


def frames(row: Row, groups: TemporalGroups) -> list[list[int]]:
    return [[row[i] for i in group] for group in groups.frames]


def test_dense_groups_of_chunks_of_four() -> None:
    found = [[frames(row, groups) for groups in plan] for row, plan in replay([4] * 7)]
    assert found[0] == [[[1, 2, 3]], [], []]
    assert found[1] == [[[5, 6, 7], [2, 3, 4]], [[1, 4, 7]], []]
    assert found[2] == [[[9, 10, 11], [6, 7, 8]], [[5, 8, 11], [2, 5, 8]], []]
    assert found[4][2] == [[1, 10, 19]]
    assert found[6] == [
        [[25, 26, 27], [22, 23, 24]], [[21, 24, 27], [18, 21, 24]], [[9, 18, 27], [6, 15, 24]]]


def test_dense_groups_of_single_frames_and_of_six() -> None:
    assert [[frames(row, groups) for groups in plan] for row, plan in replay([1] * 4, 3, 1)] == [
        [[]], [[]], [[[0, 1, 2]]], [[[1, 2, 3]]]]
    row, plan = next(replay([6]))
    assert frames(row, plan[0]) == [[3, 4, 5], [0, 1, 2]]


def test_sparse_groups_of_chunks_of_four() -> None:
    found = [[frames(row, groups) for groups in plan] for row, plan in replay([4] * 6, sparse=True)]
    assert found[1] == [[[2, 3, 4], [5, 6, 7]], [[0, 3, 6]], []]
    assert found[4][2] == [[0, 9, 18]]
    assert found[5][2] == []


@pytest.mark.parametrize("n_frames_D", [2, 3, 4])
@pytest.mark.parametrize("n_new", [1, 2, 3, 4, 5, 7])
def test_sparse_groups_equal_a_buffer_per_scale(n_frames_D: int, n_new: int) -> None:
    buffers: list[list[int]] = [[], [], []]
    for chunk, (row, plan) in enumerate(replay([n_new] * 30, n_frames_D, sparse=True)):
        for scale, buffer in enumerate(buffers):
            if len(buffer) % n_frames_D == 0:
                del buffer[:max(0, len(buffer) - (n_frames_D - 1))]
            added = [i for i in range(chunk * n_new, (chunk + 1) * n_new) if i % n_frames_D**scale == 0]
            buffer += added
            expected = []
            if added and len(buffer) >= n_frames_D:
                del buffer[:len(buffer) % n_frames_D]
                expected = [buffer[i:i + n_frames_D] for i in range(0, len(buffer), n_frames_D)]
            assert frames(row, plan[scale]) == expected


def test_dense_flows_span_the_skipped_frames_and_sparse_flows_do_not() -> None:
    *_, (row, plan) = replay([4, 4])
    assert [(row[i], row[j]) for i, j in plan[1].flow_pairs[0]] == [(4, 1), (7, 4)]
    assert plan[1].skips_frames
    assert not plan[0].skips_frames
    *_, (row, plan) = replay([4, 4], sparse=True)
    assert [(row[i], row[j]) for i, j in plan[1].flow_pairs[0]] == [(3, 2), (6, 5)]
    assert not plan[1].skips_frames


@pytest.mark.parametrize("sparse", [False, True])
def test_buffer_stays_bounded_and_indices_stay_inside(sparse: bool) -> None:
    for row, plan in replay([5] * 20, n_scales_temporal=2, sparse=sparse):
        n_new = 5
        assert len(row) == n_new + min(row[0], 6)
        for groups in plan:
            pairs = [pair for group in groups.flow_pairs for pair in group]
            assert all(i in row for group in (*groups.frames, *pairs) for i in group)


def test_no_temporal_scale_needs_no_buffer() -> None:
    assert temporal_plan(DiscriminatorConfig(n_scales_temporal=0), 7, 3) == ()
    assert frames_kept(DiscriminatorConfig(n_scales_temporal=0), 7) == 0
