"""Spectral normalisation (Miyato et al. 2018), by torch's parametrisation: a kernel is divided by its largest singular
value, as a power iteration sees it.

The iteration goes on once per training step, before the first pass, and never by itself in a pass. So all passes of a
step see the same weights, whoever runs them, how often, and whether activations are computed again.
"""

from collections.abc import Iterator
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

N = TypeVar("N", bound=nn.Module)
VECTORS = ("parametrizations.weight.0._u", "parametrizations.weight.0._v")
"""How the names of the iteration's vectors end in a state dict."""


def spectrally_normalised(network: N, *, heads: bool = True) -> N:
    """Normalise the kernels of `network`, which is changed, after they have been drawn. Without `heads` those that
    make colours, flow or weights stay as they are: at most three channels, which have units."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and (heads or module.out_channels > 3):
            spectral_norm(module).parametrizations.weight[0].eval()  # type: ignore[union-attr, index]
    return network


@torch.no_grad()
def advance(network: nn.Module) -> None:
    """One iteration for every kernel that is normalised."""
    for module in _normalised(network):
        parametrization = module.parametrizations.weight[0].train()
        module.weight  # noqa: B018 - torch iterates where a weight is read in training
        parametrization.eval()


def with_plain_kernels(network: N) -> N:
    """Put the normalised kernels in the place of those that are trained, in `network`: for generation only."""
    for module in list(_normalised(network)):
        kernel = module.weight.detach()
        # Torch's own way takes the weight from the class, which copies of a module share.
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
        module.weight = nn.Parameter(kernel)
    return network


def _normalised(network: nn.Module) -> Iterator[Any]:
    return (cast(Any, module) for module in network.modules() if parametrize.is_parametrized(module, "weight"))
