"""Placements as asked for, and the words when they cannot be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.plans import config
from vid2vid_dist.engine.plan.placement import (
    colocated,
    data_parallel,
    explicit,
    grid_table,
    placed_roles,
    slots_per_pipeline,
    split,
)
from vid2vid_dist.errors import UserError

CFG = config(loss__no_vgg=True)


def test_roles_of_a_configuration() -> None:
    assert placed_roles(CFG) == ["generator", "image", "temporal_0", "temporal_1", "flow"]
    assert "perceptual" in placed_roles(config())


def test_split_keeps_the_generator_apart() -> None:
    layout = split(CFG, 3, 2)
    assert layout.n_slots == 5
    assert layout.slots["generator"] == (0, 1, 2)
    assert all(layout.slots[role] == (3, 4) for role in placed_roles(CFG) if role != "generator")
    assert layout.holders("face") == layout.holders("image") == (3, 4)


def test_data_parallel_binds_lanes() -> None:
    layout = data_parallel(CFG, 4)
    assert [layout.allowed("image", lane) for lane in (0, 3, 4)] == [(0,), (3,), (0,)]
    assert colocated(CFG, 4).allowed("image", 3) == (0, 1, 2, 3)


def test_explicit_table() -> None:
    layout = explicit(CFG, "generator=0-2+5,image=3,others=4", 6)
    others = {"temporal_0": (4,), "temporal_1": (4,), "flow": (4,)}
    assert layout.slots == {"generator": (0, 1, 2, 5), "image": (3,), **others}
    assert layout.roles_on(4) == ["temporal_0", "temporal_1", "flow"]


@pytest.mark.parametrize(("make", "says"), [
    (lambda: split(CFG, 0, 4), r"nearest is split:1\+4"),
    (lambda: explicit(CFG, "generator=0-3,others=4", 4), "slots run from 0 to 3"),
    (lambda: explicit(CFG, "generator=0,image=1", 2), "nobody runs temporal_0, temporal_1, flow; the nearest"),
    (lambda: explicit(CFG, "generator=0,others=1", 3), "slots 2 have no role"),
    (lambda: explicit(CFG, "generater=0,others=1", 2), "no such role; this configuration has generator, image"),
    (lambda: explicit(CFG, "generator=a,others=1", 2), "write ROLE=SLOTS"),
    (lambda: explicit(CFG, "generator=3-1,others=1", 4), "smaller number first"),
    (lambda: slots_per_pipeline(8, 3), "nearest is 2 of 4 ranks"),
    (lambda: slots_per_pipeline(4, 8), "nearest is 4 of 1 ranks"),
])
def test_impossible_placements_are_refused_with_the_nearest(make: Callable, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make()


def test_grid_names_every_rank() -> None:
    lines = grid_table(split(CFG, 1, 1), n_pipelines=2, ranks_per_node=2).splitlines()
    assert [line.split() for line in lines] == [
        ["node", "0", "pipeline", "0", "slot", "0", "rank", "0", "generator"],
        ["node", "0", "pipeline", "0", "slot", "1", "rank", "1", "image", "temporal_0", "temporal_1", "flow"],
        ["node", "1", "pipeline", "1", "slot", "0", "rank", "2", "generator"],
        ["node", "1", "pipeline", "1", "slot", "1", "rank", "3", "image", "temporal_0", "temporal_1", "flow"],
    ]
