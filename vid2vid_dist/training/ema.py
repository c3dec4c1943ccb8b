"""The averaged generator that samples are made with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Exponential moving average of a module's state in float32 (or wider); what counts in integers is copied.

    Kept by one rank only: the weights are equal on all ranks of a role.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: _wide(tensor) for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        for name, tensor in module.state_dict().items():
            mean = self.average[name]
            if mean.is_floating_point():
                mean.lerp_(tensor.to(mean.dtype), 1 - self.decay)
            else:
                mean.copy_(tensor)


def _wide(tensor: Tensor) -> Tensor:
    wide = tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor
    return wide.detach().clone()
