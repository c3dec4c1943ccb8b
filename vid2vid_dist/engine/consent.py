"""Whether a step may change the weights: asked when all gradients are there, before any role is updated."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vid2vid_dist.engine.optimizer import RoleEngine

Consent = Callable[[list[str]], bool]
"""Told what is not finite on this rank, says whether the step's updates are made. Every rank asks once a step, at
the same place, and all get the same answer: it may be a collective, or raise on all ranks."""


def always(lost: list[str]) -> bool:
    """Update whatever comes, without asking the other ranks."""
    return True


def find_lost(engines: Mapping[str, RoleEngine], losses: Mapping[str, Tensor]) -> list[str]:
    """What this rank has made in a step that is not finite: losses by name, "gradient of ROLE"."""
    values = dict(losses) | {f"gradient of {role}": engine.gradient_norm for role, engine in engines.items()}
    if not values:
        return []
    finite = torch.stack([value.detach().double() for value in values.values()]).isfinite()
    return [name for name, is_finite in zip(values, finite.tolist(), strict=True) if not is_finite]
