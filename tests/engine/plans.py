"""Small configurations and made-up costs for tests of plans."""

from __future__ import annotations

import random

from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.counting import Work
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, INTO_WEIGHTS, Kind


def config(**settings: object) -> Config:
    """The defaults with settings `section__key=value`; one frame per discriminator pass."""
    given = {"discriminator__frames_per_pass": 1, **settings}
    return load_config(None, [f"{key.replace('__', '.')}={value}".replace("True", "true").replace("False", "false")
                              for key, value in given.items()])


def made_up_costs(cfg: Config, seed: int = 0) -> Costs:
    """Every task takes between 1 and 10 ms, every tensor has between 1 and 100 MB."""
    rng = random.Random(seed)
    scales = range(max(cfg.generator.n_scales_spatial, cfg.discriminator.n_scales_temporal))
    kinds = [kind for kind in Kind if kind not in COLLECTIVE]
    names = ["image", "grad_image", "features", "grad_features", "foreground", "fg_features", "grad_fg_features"]
    tensors = [f"{name}/{scale}" for name in names for scale in scales]
    roles = ["generator", "image", *(f"temporal_{s}" for s in range(cfg.discriminator.n_scales_temporal))]
    return Costs(
        work={f"{kind}/{s}": Work(moved=rng.uniform(2.6e9, 26e9),
                                  saved=0.0 if kind in (*INTO_WEIGHTS, Kind.FLOW_LOSS) else rng.uniform(1e6, 1e9))
              for kind in kinds for s in scales},
        tensors={name: rng.randrange(10**6, 10**8)
                 for name in [*tensors, "raw", "grad_raw", "reference", "skipped_flow"]},
        parameters={role: rng.randrange(10**6, 10**8) for role in roles},
        frozen={"flow": 10**6} if cfg.loss.no_vgg else {"flow": 10**6, "perceptual": 10**7},
        precision="bf16",
    )
