"""Augmentation of what discriminators see: what stays, what is alike, what it is a function of."""

import pytest
import torch

from vid2vid_dist.data.sampling import step_rng
from vid2vid_dist.losses import temporal_input
from vid2vid_dist.models.augment import Augmentation, augmented, draw, strength_loss
from vid2vid_dist.models.warp import warp

ALL, NOTHING = slice(0, None), slice(0, 0)
CENTRE = 4 / 9 + 1e-9  # of a place that is picked from nine: moves a frame of 32 rows by nothing
BEYOND = 0.999  # a hole in the last corner


def pictures(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def test_colours_are_brighter_paler_and_flatter_and_nothing_else() -> None:
    x = pictures(1, 5, 32, 32)
    found = Augmentation(0.25, 0.0, 1.0, (CENTRE, CENTRE), (BEYOND, BEYOND))(x, slice(2, 5))
    grey = x[:, 2:].mean(dim=1, keepdim=True).expand(1, 3, 32, 32) + 0.25
    torch.testing.assert_close(found[..., :16, :16], torch.cat([x[:, :2], grey], dim=1)[..., :16, :16])
    flat = Augmentation(0.0, 1.0, 0.5, (CENTRE, CENTRE), (BEYOND, BEYOND))(x, slice(2, 5))
    expected = 0.5 * x[:, 2:] + 0.5 * x[:, 2:].mean()
    torch.testing.assert_close(flat[:, 2:, :16, :16], expected[..., :16, :16])


def test_frames_are_moved_and_get_a_hole_of_half_their_sides() -> None:
    x = pictures(1, 3, 32, 16)
    same = Augmentation(0.0, 1.0, 1.0, (CENTRE, 0.5), (0.5, 0.5))(x, ALL)
    hole = torch.ones(32, 16, dtype=torch.bool)
    hole[8:24, 4:12] = False
    torch.testing.assert_close(same, x * hole)
    moved = Augmentation(0.0, 1.0, 1.0, (0.0, 0.999), (0.999, 0.0))(x, NOTHING)  # four rows up, two columns right
    torch.testing.assert_close(moved[..., :20, 8:], x[..., 4:24, 6:14])
    assert moved[..., :2].abs().max() == 0
    assert moved[..., 28:, :].abs().max() == 0


def test_frames_still_lie_where_the_flow_points() -> None:
    """Of what a temporal discriminator sees: one frame is the other one moved, as the flow says."""
    before = pictures(1, 3, 32, 32)
    flow = torch.zeros(1, 2, 32, 32, dtype=torch.float64)
    flow[:, 0] = 3
    now = warp(before, flow)
    seen = temporal_input(torch.stack([before, now], dim=1), flow[:, None])
    drawn = Augmentation(0.1, 1.5, 0.8, (0.9, 0.1), (BEYOND, 0.5))
    found = drawn(seen, slice(0, 6))
    early, late, moved = found[:, :3], found[:, 3:6], 20 * found[:, 6:]
    inside = (slice(None), slice(None), slice(5, 15), slice(0, 20))
    assert moved[..., 5:15, :20].eq(flow[..., 5:15, :20]).all()
    offset = (warp(early, moved) - late)[inside]  # the means of the two frames differ, no more
    torch.testing.assert_close(offset, offset.mean().expand_as(offset), rtol=0, atol=1e-9)


def test_a_draw_is_a_function_of_seed_step_and_lane() -> None:
    first = draw(step_rng(0, 7, 1), 2)
    assert first == draw(step_rng(0, 7, 1), 2)
    assert first[0] != first[1]
    for other in (step_rng(1, 7, 1), step_rng(0, 8, 1), step_rng(0, 7, 2)):
        assert first != draw(other, 2)


def test_every_clip_of_a_batch_has_its_own() -> None:
    x, drawn = pictures(6, 3, 16, 16), draw(step_rng(0, 1, 0), 2)
    found = augmented(x, ALL, drawn)
    torch.testing.assert_close(found, torch.cat([drawn[0](x[:3], ALL), drawn[1](x[3:], ALL)]))


def test_gradients_come_through() -> None:
    x = pictures(1, 3, 16, 16).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: draw(step_rng(0, 1, 0), 1)[0](x, ALL), (x,))


@pytest.mark.parametrize("seed", range(20))
def test_any_draw_stays_inside_the_frame(seed: int) -> None:
    """The smallest crop of a face has 8 rows."""
    (drawn,) = draw(step_rng(seed, 1, 0), 1)
    assert drawn(pictures(2, 3, 8, 8), ALL).shape == (2, 3, 8, 8)


def test_strength_is_how_often_each_of_the_three_happens() -> None:
    x = pictures(1, 3, 32, 32)
    drawn = Augmentation(0.25, 0.5, 1.2, (0.9, 0.1), (0.5, 0.5), (0.1, 0.5, 0.8))
    assert drawn(x, ALL, torch.tensor([0.05])).equal(x)
    still, beyond = (CENTRE, CENTRE), (BEYOND, BEYOND)
    coloured = Augmentation(0.25, 0.5, 1.2, still, beyond)(x, ALL)
    torch.testing.assert_close(drawn(x, ALL, torch.tensor([0.3]))[..., :15, :15], coloured[..., :15, :15])
    for strength, kept in ((0.6, 32 * 32), (0.9, 32 * 32 - 16 * 16)):
        found = drawn(torch.ones_like(x), NOTHING, torch.tensor([strength]))
        assert int(found[0, 0].count_nonzero()) < kept  # moved, too
    torch.testing.assert_close(drawn(x, ALL, torch.ones(1)), drawn(x, ALL))


@pytest.mark.parametrize(("now", "share_real", "pull"), [
    (0.5, 1.0, -0.4), (0.5, 0.5, 0.6), (0.5, 0.0, 1.6), (0.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, -0.4)])
def test_strength_goes_up_while_too_many_real_patches_are_known(now: float, share_real: float, pull: float) -> None:
    """Down the gradient, and no further than from never to always."""
    strength = torch.tensor([now], requires_grad=True)
    scores = torch.where(torch.arange(10) < 10 * share_real, 0.9, 0.2)
    strength_loss(strength, scores, middle=0.5).backward()
    assert strength.grad is not None
    assert strength.grad.item() == pytest.approx(pull, abs=1e-6)
