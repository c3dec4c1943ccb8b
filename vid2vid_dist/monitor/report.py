"""What a training run tells its monitor."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class StepReport:
    """One interval of training, `steps` optimiser steps long, ending with optimiser step `step`."""

    step: int
    epoch: int
    steps: int  # optimiser steps since the last report
    seconds: float  # wall time since the last report
    loader_wait: float  # seconds of them that were spent waiting for data
    frames: int  # generated since the last report, all ranks together
    losses: dict[str, float]
    lr: dict[str, float]
    eta: float  # seconds to the end of the stage, about
    n_frames_total: int  # generated frames per clip at present
    chunk_frames: int  # generated frames per step and clip at present
    # By rank, in a placed run: the parts of the time in which it ran tasks, and waited for messages. Host time: on
    # GPUs it says little, there `monitor.trace_steps` measures.
    busy: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    # By discriminator and side, such as "image/fake": fractions of the patch scores at or above the edges
    # (`scores`), and of those on the right side of the middle.
    spreads: dict[str, list[float]] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    # By loss: the parts that the terms have in the generator's loss, by size.
    loss_shares: dict[str, float] = field(default_factory=dict)
    # By critic: the norm of its gradients to the generated frames over the sum of all critics' norms.
    gradient_shares: dict[str, float] = field(default_factory=dict)
    gradient_norms: dict[str, float] = field(default_factory=dict)  # by role, of its last update, over all ranks

    @property
    def frames_per_second(self) -> float:
        return self.frames / self.seconds

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / self.steps

    @property
    def loader_share(self) -> float:
        """The part of the time that was lost to waiting for data, 0..1."""
        return self.loader_wait / self.seconds


@dataclass(frozen=True)
class Sample:
    """The T generated frames of one clip, float tensors on the CPU. Images and labels lie in [-1, 1]."""

    labels: Tensor  # (T, 1, H, W) class ids, or (T, C, H, W) picture in [-1, 1] when data.label_nc is 0
    fake: Tensor  # (T, 3, H, W)
    raw: Tensor  # (T, 3, H, W)
    real: Tensor  # (T, 3, H, W)
    flow: Tensor | None  # (T, 2, H, W) pixels, x first
    weight: Tensor | None  # (T, 1, H, W) in [0, 1]
    flow_ref: Tensor  # (T, 2, H, W) pixels
    conf_ref: Tensor  # (T, 1, H, W) in [0, 1]


@dataclass(frozen=True)
class Validation:
    """What the generator makes of clips that stay the same all through a run (`training.validation`).

    `figures`, means over all frames: `warp_error_` (`models.warp_error`) of `fake`, `fake_averaged` and `real`, and
    `L1_` of the first two to the real frames. `panels`: pictures (T, H, W, 3) uint8 of the first clip by name.
    """

    figures: dict[str, float]
    panels: dict[str, np.ndarray]
