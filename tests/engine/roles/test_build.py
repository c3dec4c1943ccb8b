"""The list of roles, and what it announces."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.engine.one_rank import OneRank
from tests.engine.plans import specs_of
from tests.engine.spread_clips import clip
from tools.lanes import clip_of
from vid2vid_dist.engine.plan.tasks import LaneChunk
from vid2vid_dist.engine.roles.build import build_modules

CHUNK = 4


def test_the_generator_is_reduced_last_and_roles_rest_until_there_are_groups() -> None:
    specs = specs_of()
    assert specs.trained == ["image", "temporal_0", "temporal_1", "generator"]
    assert specs.active(LaneChunk(0, 2)) == ["image", "generator"]
    assert specs.active(LaneChunk(0, CHUNK)) == ["image", "temporal_0", "generator"]
    assert specs.active(LaneChunk(CHUNK, CHUNK)) == specs.trained


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = (
        build_modules(specs_of(generator__ngf=4, discriminator__ndf=4, generator__n_blocks=2, run__seed=seed))
        for seed in (1, 1, 2))
    assert list(first) == ["generator", "image", "temporal_0", "temporal_1"]
    for role, module in first.items():
        weights = torch.cat([p.flatten() for p in module.parameters()])
        assert torch.equal(weights, torch.cat([p.flatten() for p in second[role].parameters()]))
        assert not torch.equal(weights, torch.cat([p.flatten() for p in other[role].parameters()]))


@pytest.mark.parametrize("overrides", [
    ("discriminator.n_scales_temporal=2", "loss.no_vgg=false"),
    ("generator.no_first_img=true", "discriminator.n_scales_temporal=0"),
    ("generator.no_flow=true", "data.label_nc=0", "data.use_instance=false", "generator.fg=false",
     "discriminator.add_face_disc=true"),
], ids=str)
def test_every_announced_loss_is_found_and_no_other(overrides: tuple[str, ...]) -> None:
    """The second chunk has every temporal scale. All are numbers."""
    rank = OneRank(*overrides)
    frames = clip(0, rank.cfg.generator.n_frames_G - 1 + 2 * CHUNK)
    if not rank.cfg.data.label_nc:
        assert frames.images is not None
        frames = replace(frames, labels=frames.images)
    lane = clip_of(rank.cfg, [frames], torch.device("cpu"))
    for first in (0, CHUNK):
        found = rank.step(lane, CHUNK).losses
        assert found.keys() == {loss.name for spec in rank.specs.all if spec.is_active(LaneChunk(first, CHUNK))
                                for loss in spec.losses}
        assert all(loss.isfinite() for loss in found.values())
