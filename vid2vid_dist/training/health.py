"""What the roles of this rank know about the health of the training, in a form that adds up over ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.roles.scores import AT_MIDDLE, OFFSETS, ScoreTally
from vid2vid_dist.engine.run.executor import HeldRoles
from vid2vid_dist.engine.run.step import Roles

Figures = dict[str, Tensor]
SIDES = ("real", "fake")


def figure_shapes(cfg: Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every figure of a run, in one order on all ranks: `scores/ROLE` as `ScoreTally.take` gives
    it, `norm/ROLE` of the role's last update, `squared_norm/CRITIC` over all steps (`CriticResult.squared_norm`)."""
    discriminators = ["image", *(["face"] if cfg.discriminator.add_face_disc else []),
                      *(f"temporal_{scale}" for scale in range(cfg.discriminator.n_scales_temporal))]
    critics = ["warp", "perceptual", *(name for name in discriminators if name != "face")]  # image's includes face's
    return {**{f"scores/{role}": (len(SIDES), len(OFFSETS) + 1) for role in discriminators},
            **{f"norm/{role}": () for role in ["generator", *discriminators]},
            **{f"squared_norm/{critic}": () for critic in critics}}


def take_figures(roles: Roles | HeldRoles, is_first: Callable[[str], bool]) -> Figures:
    """Those of this rank since the last call. `is_first`: whether this rank speaks for a role's holders; of all of
    them the norm is the same."""
    tallies: dict[str, ScoreTally] = {}
    if roles.image is not None:
        tallies |= {"image": roles.image.tally, "face": roles.image.face_tally}
    temporal = roles.temporal.values() if isinstance(roles.temporal, dict) else roles.temporal
    tallies |= {f"temporal_{role.scale}": role.tally for role in temporal}
    found = {f"scores/{name}": taken for name, tally in tallies.items() if (taken := tally.take()) is not None}
    for name, engine in roles.engines().items():
        if is_first(name):
            found[f"norm/{name}"] = torch.as_tensor(engine.update_norm)
    return found


def spreads_of(totals: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Means over the interval from figures that were summed over all ranks, by role and side; none without passes."""
    found: dict[str, list[float]] = {}
    for name, total in totals.items():
        kind, _, role = name.partition("/")
        if kind == "scores" and float(total[0, -1]):
            found |= {f"{role}/{side}": (of_side[:-1] / of_side[-1]).tolist()
                      for side, of_side in zip(SIDES, total, strict=True)}
    return found


def gradient_shares_of(totals: Mapping[str, Tensor]) -> dict[str, float]:
    """The critics' parts in the generator's gradient at its frames: norms of their gradients over the sum of norms."""
    prefix = "squared_norm/"
    norms = {name.removeprefix(prefix): float(x) ** 0.5 for name, x in totals.items() if name.startswith(prefix)}
    total = sum(norms.values())
    return {name: norm / total for name, norm in norms.items() if norm} if math.isfinite(total) else {}


def accuracy_of(spreads: Mapping[str, list[float]]) -> dict[str, float]:
    """Fractions of the patches that a discriminator takes for what they are."""
    return {name: fractions[AT_MIDDLE] if name.endswith("real") else 1 - fractions[AT_MIDDLE]
            for name, fractions in spreads.items()}
