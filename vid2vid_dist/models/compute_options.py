"""Ways to compute the same results in less memory or less time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vid2vid_dist.config.schema import OptimConfig


@dataclass(frozen=True)
class ComputeOptions:
    """How a generator computes: equal results for less memory or less time."""

    gather_labels: bool = True  # look label ids up instead of multiplying one-hot planes
    checkpoint: bool = False  # compute a stage's activations again in the backward pass instead of keeping them
    channels_last: bool = False  # lay activations out with the channels of a pixel side by side


def compute_options_from(optim: OptimConfig, on_cpu: bool) -> ComputeOptions:
    """What the configuration asks for. Looking ids up is faster on CPUs; on GPUs it has not been measured yet. Compiled
    it cannot be: how much there is to do depends on the labels."""
    gather = optim.label_conv == "gather" or (optim.label_conv == "auto" and on_cpu and optim.compile == "off")
    return ComputeOptions(gather, optim.checkpoint_activations, optim.channels_last)


def run_stage(run: Callable[[Tensor], Tensor], x: Tensor, stacks: Sequence[nn.Module], options: ComputeOptions
              ) -> Tensor:
    """`run(x)`, whose activations are kept for the backward pass or computed again in it; `stacks`: the layers that
    take part."""
    if not (options.checkpoint and torch.is_grad_enabled()):
        return run(x)
    if torch.compiler.is_compiling():  # a program notes statistics once
        kept: Tensor = checkpoint(run, x, use_reentrant=False, preserve_rng_state=False)
        return kept
    result: Tensor = checkpoint(run, x, use_reentrant=False, preserve_rng_state=False,
                                context_fn=lambda: (nullcontext(), _statistics_left_alone(stacks)))
    return result


@contextmanager
def _statistics_left_alone(stacks: Sequence[nn.Module]) -> Iterator[None]:
    """Keep norm layers from adding the statistics of a recomputed forward to their running ones a second time."""
    norms = [module for stack in stacks for module in stack.modules()
             if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) and module.track_running_stats]
    kept = [(norm, norm.momentum) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in kept:
            norm.momentum = momentum


def laid_out(x: Tensor, options: ComputeOptions) -> Tensor:
    """`x` (N, C, H, W) in the memory layout that convolutions are to run in; those that follow keep it.
    What has units, frames and flow, is contiguous again."""
    return x.contiguous(memory_format=torch.channels_last) if options.channels_last else x
