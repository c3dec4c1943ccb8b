"""Whether a step may update the weights: asked once all gradients are computed, before any role is updated."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vid2vid_dist.engine.run.optimizer import RoleEngine

MayUpdate = Callable[[list[str]], bool]
"""Takes the names of what is not finite on this rank, returns whether the step's updates are made. Every rank calls it
once per step, at the same point, and all get the same answer: it may be a collective, and may raise on all ranks."""


def always(nonfinite: list[str]) -> bool:
    """Every step is updated; the other ranks are not asked."""
    return True


def find_nonfinite(engines: Mapping[str, RoleEngine], losses: Mapping[str, Tensor]) -> list[str]:
    """What is not finite of this rank's part in a step: losses by name, "gradient of ROLE"."""
    values = dict(losses) | {f"gradient of {role}": engine.gradient_norm for role, engine in engines.items()}
    if not values:
        return []
    finite = torch.stack([value.detach().double() for value in values.values()]).isfinite()
    return [name for name, is_finite in zip(values, finite.tolist(), strict=True) if not is_finite]
