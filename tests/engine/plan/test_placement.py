"""Placements as asked for, and the words when they cannot be."""

from collections.abc import Callable

import pytest

from tests.engine.plans import specs_of
from vid2vid_dist.engine.plan.placement import colocated, explicit, slots_per_pipeline, split
from vid2vid_dist.errors import UserError

SPECS = specs_of(loss__no_vgg=True)


def test_roles_of_a_configuration() -> None:
    """The generator first, flow last; the warp losses have no place of their own: they go with the generator."""
    assert SPECS.placed == ["generator", "image", "temporal_0", "temporal_1", "flow"]
    assert specs_of().placed == [*SPECS.placed[:-1], "perceptual", "flow"]
    assert specs_of(data__label_nc=0, discriminator__add_face_disc=True).placed[1:3] == ["image", "face"]


def test_split_keeps_the_generator_apart() -> None:
    layout = split(SPECS, 3, 2)
    assert layout.n_slots == 5
    assert layout.slots["generator"] == (0, 1, 2)
    assert all(layout.slots[role] == (3, 4) for role in SPECS.placed if role != "generator")


def test_every_slot_of_a_colocated_pipeline_may_run_all_roles() -> None:
    assert colocated(SPECS, 4).slots == dict.fromkeys(SPECS.placed, (0, 1, 2, 3))
    assert colocated(SPECS, 1).roles_on(0) == SPECS.placed


def test_layouts_are_told_apart_by_where_roles_lie() -> None:
    """By what checkpoints are compared: not by the words that asked for it."""
    assert split(SPECS, 1, 1).describe() == explicit(SPECS, "generator=0,others=1", 2).describe()
    layouts = [split(SPECS, 1, 2), split(SPECS, 2, 1), colocated(SPECS, 3)]
    assert len({layout.describe() for layout in layouts}) == 3


def test_explicit_table() -> None:
    layout = explicit(SPECS, "generator=0-2+5,image=3,others=4", 6)
    others = {"temporal_0": (4,), "temporal_1": (4,), "flow": (4,)}
    assert layout.slots == {"generator": (0, 1, 2, 5), "image": (3,), **others}
    assert layout.roles_on(4) == list(others)


@pytest.mark.parametrize(("make", "says"), [
    (lambda: explicit(SPECS, "generator=0-3,others=4", 4), "slots run from 0 to 3"),
    (lambda: explicit(SPECS, "generator=0,image=1", 2), "nobody runs temporal_0, temporal_1, flow; the nearest"),
    (lambda: explicit(SPECS, "generator=0,others=1", 3), "slots 2 have no role"),
    (lambda: explicit(SPECS, "generater=0,others=1", 2), "no such role; this configuration has generator, image"),
    (lambda: explicit(SPECS, "generator=a,others=1", 2), "write ROLE=SLOTS"),
    (lambda: explicit(SPECS, "generator=3-1,others=1", 4), "smaller number first"),
    (lambda: slots_per_pipeline(8, 3), "nearest is 2 of 4 ranks"),
    (lambda: slots_per_pipeline(4, 8), "nearest is 4 of 1 ranks"),
])
def test_impossible_placements_are_refused_with_the_nearest(make: Callable, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make()
