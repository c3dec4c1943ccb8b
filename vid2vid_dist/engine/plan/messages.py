"""What the messages of a plan hold: tensors by name and frame, and the shapes that both ends know beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.schedule import Plan, Transfer
from vid2vid_dist.engine.plan.tasks import Task


class Part(NamedTuple):
    """A tensor of a task. `frame` says to which frame a gradient goes; everything else is there once (-1)."""

    name: str
    frame: int = -1


@dataclass(frozen=True)
class FrameSize:
    """Clips of a lane that are normalised together, and the size of their frames in pixels."""

    clips: int
    height: int
    width: int


def parts_for(task: Task, names: tuple[str, ...]) -> list[Part]:
    """What a task reads of another. Gradients are made for one frame each: a reader takes those to its own."""
    return [Part(name, task.frames[0] if name.startswith("grad_") else -1) for name in names]


def message_parts(plan: Plan) -> dict[tuple[int, int], list[Part]]:
    """The tensors of each message by (producer, destination), in the order in which they are sent."""
    found: dict[tuple[int, int], set[Part]] = {}
    slots = {(item.producer, item.destination) for item in plan.sequence if isinstance(item, Transfer)}
    for task in plan.tasks:
        if task.site is None:
            continue
        for need in task.needs:
            key = need.task, plan.placement[task.site]
            if key in slots:
                found.setdefault(key, set()).update(parts_for(task, need.tensors))
        for name, site in task.carries:
            key = task.number, plan.placement[site]
            if key in slots:
                found.setdefault(key, set()).add(Part(name))
    return {key: sorted(parts) for key, parts in found.items()}


def shape_of(cfg: Config, name: str, size: FrameSize) -> tuple[int, ...]:
    """Shape of a tensor that travels. Feature maps for image and flow are one tensor, stacked as channels; so are
    reference flow and its confidence."""
    kind, _, scale = name.removeprefix("grad_").partition("/")
    gen = cfg.generator
    finest = gen.n_scales_spatial - 1
    halvings = finest - int(scale) if scale else 0
    ngf = gen.ngf // 2 ** int(scale or 0)
    channels = {
        "image": 3,
        "raw": 3,
        "foreground": 3,
        "features": ngf if gen.no_flow else 2 * ngf,
        "fg_features": ngf // 2 if gen.n_downsample_G > 2 else ngf,
        "reference": 3,
        "skipped_flow": 2,
    }[kind]
    return size.clips, channels, size.height >> halvings, size.width >> halvings


def dtype_of(name: str, compute: torch.dtype) -> torch.dtype:
    """Number format of a tensor that travels: reference flow is never narrower than float32."""
    return torch.promote_types(compute, torch.float32) if name in ("reference", "skipped_flow") else compute
