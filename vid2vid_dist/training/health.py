"""What the roles of this rank know about the health of the training, in a form that adds up over ranks."""

import math
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from torch import Tensor

from vid2vid_dist.engine.plan.role import Loss, Minimised, RoleSpecs
from vid2vid_dist.engine.run.executor import Role
from vid2vid_dist.scores import AT_MIDDLE, OFFSETS, ScoreTally


class What(StrEnum):
    """What a figure is of."""

    LOSS = "loss"  # sum over the steps
    SCORES = "scores"  # of a discriminator, as `ScoreTally.take` gives them
    NORM = "norm"  # of the gradients that a role's last update went by
    SQUARED_NORM = "squared_norm"  # of a critic's gradients to the frames, summed over the steps


class Figure(NamedTuple):
    """A figure of a run, by the name of the loss or role."""

    what: What
    name: str


Figures = dict[Figure, Tensor]
SIDES = ("real", "fake")


def figure_shapes(specs: RoleSpecs) -> dict[Figure, tuple[int, ...]]:
    """Every figure of a run's roles and its shape, in one order on all ranks."""
    judging = [spec.name for spec in specs.all if any(loss.minimised == Minimised.BY_ITSELF for loss in spec.losses)]
    critics = [spec.name for spec in specs.all if spec.losses]
    return {**{Figure(What.SCORES, role): (len(SIDES), len(OFFSETS) + 1) for role in judging},
            **{Figure(What.NORM, role): () for role in specs.trained},
            **{Figure(What.SQUARED_NORM, critic): () for critic in critics}}


def take_figures(roles: Mapping[str, Role], is_first: Callable[[str], bool]) -> Figures:
    """Those of this rank since the last call. `is_first`: whether this rank speaks for a role's holders; of all of
    them the norm is the same."""
    found: Figures = {}
    for name, role in roles.items():
        tally = getattr(role, "tally", None)
        scores = tally.take() if isinstance(tally, ScoreTally) else None
        if scores is not None:
            found[Figure(What.SCORES, name)] = scores
        if role.engine is not None and is_first(name):
            found[Figure(What.NORM, name)] = role.engine.update_norm
    return found


def spreads_of(totals: Mapping[Figure, Tensor]) -> dict[str, list[float]]:
    """Means over the interval from figures that were summed over all ranks, by role and side; none without passes."""
    found: dict[str, list[float]] = {}
    for (what, role), total in totals.items():
        if what == What.SCORES and float(total[0, -1]):
            found |= {f"{role}/{side}": (of_side[:-1] / of_side[-1]).tolist()
                      for side, of_side in zip(SIDES, total, strict=True)}
    return found


def gradient_shares_of(totals: Mapping[Figure, Tensor]) -> dict[str, float]:
    """The critics' parts in the generator's gradient at its frames: norms of their gradients over the sum of norms."""
    norms = {name: float(x) ** 0.5 for (what, name), x in totals.items() if what == What.SQUARED_NORM}
    total = sum(norms.values())
    return {name: norm / total for name, norm in norms.items() if norm} if math.isfinite(total) else {}


def loss_shares(terms: Iterable[Loss], values: Mapping[str, float]) -> dict[str, float]:
    """The parts that the terms have in the generator's loss, by size; they add up to 1."""
    sizes = {loss.name: abs(values[loss.name]) for loss in terms if loss.minimised == Minimised.BY_GENERATOR}
    total = sum(sizes.values())
    return {name: x / total for name, x in sizes.items()} if total else {}


def accuracy_of(spreads: Mapping[str, list[float]]) -> dict[str, float]:
    """Fractions of the patches that a discriminator takes for what they are."""
    return {name: fractions[AT_MIDDLE] if name.endswith("real") else 1 - fractions[AT_MIDDLE]
            for name, fractions in spreads.items()}
