"""The curriculum against the published recipes (spec: training_schedule 5, 10, losses 7)."""

from typing import Any

import pytest

from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.role import RateGroup
from vid2vid_dist.training.curriculum import n_epochs, phase, warmth


def recipe(**options: Any) -> Config:
    sections = {"n_scales_spatial": "generator", "lr": "optim", "TTUR": "optim"}
    return load_config(None, [f"{sections.get(k, 'schedule')}.{k}={v}" for k, v in options.items()])


def over_epochs(cfg: Config, value: str, longest: int = 30) -> list[Any]:
    return [getattr(phase(cfg, epoch, longest), value) for epoch in range(1, n_epochs(cfg) + 1)]


def rates(cfg: Config, group: RateGroup) -> list[float]:
    return [now[group].lr for now in over_epochs(cfg, "rates")]


def betas(cfg: Config, group: RateGroup) -> list[tuple[float, float]]:
    return [now[group].betas for now in over_epochs(cfg, "rates")]


STREET_512 = recipe(n_generator_slots=6, max_frames_per_rank=2, n_frames_total=6, niter=10, niter_decay=10)
STREET_1024 = recipe(n_generator_slots=4, max_frames_per_rank=1, n_frames_total=4, niter=10, niter_decay=10,
                     niter_step=2, niter_fix_global=10, n_scales_spatial=2, lr=1e-4)
FACE_512 = recipe(n_generator_slots=6, n_frames_total=12, niter=20, niter_decay=20)


def test_street_512() -> None:
    assert over_epochs(STREET_512, "n_frames_total") == [6] * 5 + [12] * 5 + [24] * 5 + [28] * 5
    assert over_epochs(STREET_512, "chunk_frames") == [6] * 5 + [12] * 15
    assert over_epochs(STREET_512, "n_frames_bp") == [1] * 20
    assert over_epochs(STREET_512, "train_all_scales") == [True] * 20


def test_street_1024() -> None:
    assert over_epochs(STREET_1024, "n_frames_total") == [4] * 2 + [8] * 2 + [16] * 2 + [28] * 14
    assert over_epochs(STREET_1024, "chunk_frames") == [4] * 20
    assert over_epochs(STREET_1024, "train_all_scales") == [False] * 10 + [True] * 10


def test_clips_are_capped_at_128_frames() -> None:
    growing = [12] * 5 + [24] * 5 + [48] * 5 + [96] * 5
    assert over_epochs(FACE_512, "n_frames_total", longest=1000) == growing + [126] * 20


def test_clip_that_starts_above_the_cap_stays() -> None:
    assert over_epochs(recipe(n_frames_total=30), "n_frames_total", longest=30) == [30] * 20


def test_learning_rates_fall_one_epoch_after_niter() -> None:
    """The first decay comes at the end of epoch niter + 1; the temporal discriminators never see one."""
    for group in (RateGroup.GENERATOR, RateGroup.DISCRIMINATOR):
        falling = [1e-4 * (1 - i / 10) for i in range(1, 10)]
        assert rates(STREET_1024, group) == pytest.approx([1e-4] * 11 + falling, rel=1e-12)
    assert rates(STREET_1024, RateGroup.TEMPORAL) == [1e-4] * 20


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("sqrt", 4), ("linear", 16)])
def test_learning_rate_grows_with_the_clips_per_step(scaling: str, factor: int) -> None:
    """All rates, and what they decay from."""
    cfg = recipe(niter=2, niter_decay=2, lr=1e-4)
    cfg.optim.lr_scaling, cfg.parallel.clips_per_step = scaling, 16
    assert rates(cfg, RateGroup.GENERATOR) == pytest.approx([factor * 1e-4] * 3 + [factor * 5e-5], rel=1e-12)
    assert rates(cfg, RateGroup.TEMPORAL) == pytest.approx([factor * 1e-4] * 4, rel=1e-12)


def test_back_propagation_reaches_further() -> None:
    cfg = recipe(niter_step=1, n_frames_total=8, max_frames_per_rank=8, max_frames_backpropagate=4,
                 niter=5, niter_decay=0)
    assert over_epochs(cfg, "n_frames_bp") == [1, 2, 4, 4, 4]


def test_back_propagation_grows_by_the_chunk_before() -> None:
    cfg = recipe(niter_step=1, n_frames_total=3, n_generator_slots=3, max_frames_per_rank=4, max_frames_backpropagate=2,
                 niter=4, niter_decay=0)
    assert over_epochs(cfg, "chunk_frames") == [3, 6, 12, 12]
    assert over_epochs(cfg, "n_frames_bp") == [1, 1, 2, 2]  # 3 // ceil(3/2), 6 // ceil(6/2)


def test_two_time_scales_until_the_first_decay() -> None:
    cfg = recipe(TTUR="true", niter=2, niter_decay=2)
    assert rates(cfg, RateGroup.GENERATOR) == [1e-4, 1e-4, 1e-4, 1e-4]  # lr/2, and then lr decayed by a half
    assert rates(cfg, RateGroup.DISCRIMINATOR) == [4e-4, 4e-4, 4e-4, 1e-4]
    assert rates(cfg, RateGroup.TEMPORAL) == [2e-4] * 4
    assert set(betas(cfg, RateGroup.GENERATOR) + betas(cfg, RateGroup.DISCRIMINATOR)) == {(0.0, 0.9)}


def test_the_optimizer_over_all_scales_is_a_plain_one() -> None:
    """With two time scales, the generator's rate and betas go back when its coarse scales join."""
    cfg = recipe(TTUR="true", n_scales_spatial=2, niter=4, niter_decay=0, niter_fix_global=2)
    assert rates(cfg, RateGroup.GENERATOR) == [1e-4, 1e-4, 2e-4, 2e-4]
    assert betas(cfg, RateGroup.GENERATOR) == [(0.0, 0.9)] * 2 + [(0.5, 0.999)] * 2
    assert rates(cfg, RateGroup.DISCRIMINATOR) == [4e-4] * 4


def test_rates_rise_evenly_from_the_first_step_on() -> None:
    optim = load_config(None, ["optim.warmup_steps=4"]).optim
    assert [warmth(optim, step) for step in (1, 2, 3, 4, 5, 900)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warmth(recipe().optim, 1) == 1.0
