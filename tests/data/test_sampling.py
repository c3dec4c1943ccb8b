"""Windows and orders: their arithmetic, their ranges, their purity."""

from hypothesis import given
from hypothesis import strategies as st

from vid2vid_dist.data.sampling import Window, clip_rng, epoch_order, pick, window

unit = st.floats(0, 1, exclude_max=True)


def test_worked_example() -> None:
    """Thirty frames on four slots: 28 are generated in 7 chunks, from frame 0 on."""
    assert window(30, 28, 4, 3, 1, 0.99, 0.99) == Window(
        start=0, t_step=1, n_frames=30, chunk_frames=4, n_chunks=7
    )


def test_clip_is_rounded_down_to_whole_chunks() -> None:
    assert window(100, 30, 8, 3, 1, 0, 0).n_frames == 3 * 8 + 2


@given(
    st.integers(8, 200),
    st.integers(1, 60),
    st.integers(1, 12),
    st.integers(2, 5),
    st.integers(1, 5),
    unit,
    unit,
)
def test_window_fits_the_video(
    length: int, total: int, chunk: int, tG: int, max_step: int, u: float, v: float
) -> None:
    found = window(length, total, chunk, tG, max_step, u, v)
    last = found.start + (found.n_frames - 1) * found.t_step
    assert 0 <= found.start <= last < length
    assert 1 <= found.t_step <= max_step
    assert found.n_frames == found.n_chunks * found.chunk_frames + tG - 1
    assert found.n_chunks * found.chunk_frames <= total


def test_every_start_and_step_is_reached() -> None:
    values = [i / 100 for i in range(100)]
    assert {window(12, 4, 2, 3, 2, 0.0, u).start for u in values} == set(range(7))
    assert {window(12, 4, 2, 3, 2, u, 0.0).t_step for u in values} == {1, 2}


@given(unit, st.integers(1, 10**6))
def test_pick_stays_below(u: float, n: int) -> None:
    assert 0 <= pick(u, n) < n


def test_order_is_a_permutation_of_its_own_for_every_seed_and_epoch() -> None:
    orders = {(seed, epoch): tuple(epoch_order(seed, epoch, 20)) for seed in range(3) for epoch in range(5)}
    assert all(sorted(order) == list(range(20)) for order in orders.values())
    assert len(set(orders.values())) == 15
    assert epoch_order(1, 2, 20) == list(orders[1, 2])


def test_numbers_of_a_clip_are_its_own() -> None:
    keys = [(seed, epoch, number) for seed in range(4) for epoch in range(4) for number in range(4)]
    first = {key: clip_rng(*key).random() for key in keys}
    assert len(set(first.values())) == len(keys)
    assert {key: clip_rng(*key).random() for key in reversed(keys)} == first
