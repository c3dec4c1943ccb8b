"""The averaged generator, and how to look at a module without touching it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vid2vid_dist.engine.run.optimizer import Statistics
from vid2vid_dist.models.spectral import VECTORS

GENERATOR_EMA = "generator_ema"
"""The averaged generator's name among the weights of a checkpoint."""


class Ema:
    """Exponential moving average of a module's state in float32 (or wider); what counts in integers is copied, and so
    are the unit vectors of spectral norms.

    It warms up: update n, from 0 on, keeps at most (1 + n) / (10 + n) of what was. With the decay alone the random
    weights of a run's start would be seen in it for some times 1 / (1 - decay) steps.

    Kept by one rank only: the weights are equal on all ranks of a role.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: _wide(tensor) for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, number: int | None) -> None:
        """`number` of the update, None = after the warm-up."""
        means, now = [], []
        decay = self.decay if number is None else min(self.decay, (1 + number) / (10 + number))
        for name, tensor in module.state_dict().items():
            mean = self.average[name]
            if mean.is_floating_point() and not name.endswith(VECTORS):
                means.append(mean)
                now.append(tensor.to(mean.dtype))
            else:
                mean.copy_(tensor)
        torch._foreach_lerp_(means, now, 1 - decay)

    @contextmanager
    def in_place_of(self, module: nn.Module) -> Iterator[None]:
        """Within, the module has the averaged weights; afterwards its own again, bit by bit."""
        own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        try:
            module.load_state_dict(self.average)
            yield
        finally:
            module.load_state_dict(own)


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """What is computed within leaves no trace in the running statistics of norm layers."""
    statistics = Statistics(module)
    statistics.keep()
    try:
        yield
    finally:
        statistics.put_back()


def _wide(tensor: Tensor) -> Tensor:
    wide = tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor
    return wide.detach().clone()
