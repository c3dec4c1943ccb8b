"""Networks as compiled code (torch.compile): one program for every shape that a part of a network is given.

What training calls of a network is a part; all around it, losses, messages and updates, is as without. Programs are
kept where torch keeps them (`TORCHINDUCTOR_CACHE_DIR`, else one folder of the user in TMPDIR or /tmp): ranks of a node
and later runs share them.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import reason

F = TypeVar("F", bound=Callable[..., Any])
MAX_PROGRAMS = 256  # of a part: scales, clips that grow, what is left at an end, with gradients and without


def compilable(part: F) -> F:
    """A method of a network, which is compiled code after `compile_network`. Then it raises `UserError` where the
    compiler fails on it; on its backward pass, the compiler's own error."""
    @wraps(part)
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not getattr(self, "is_compiled", False):
            return part(self, *args, **kwargs)
        failures, call = _compiled(part)
        try:
            return call(self, *args, **kwargs)
        except failures as error:
            raise UserError(f"optim.compile=tasks: {part.__qualname__} cannot be compiled ({reason(error)}): set "
                            "optim.compile=off") from error
    return cast(F, run)


def compile_network(network: nn.Module) -> None:
    """Have the compilable parts of `network` run as compiled code; weights and their names stay what they are."""
    for module in network.modules():
        module.is_compiled = True  # type: ignore[assignment]


def compiler_problem(device: torch.device) -> str:
    """What keeps programs from being compiled for `device`, "" for nothing: a small one is, with its gradient."""
    try:
        _compiled(_small)[1](torch.ones(8, device=device, requires_grad=True)).backward()
    except Exception as error:
        fix = "install g++, and triton for a GPU (CXX names another compiler, TORCHINDUCTOR_CACHE_DIR another folder)"
        return f"optim.compile=tasks: nothing can be compiled here ({reason(error)}): {fix}"
    return ""


def _small(x: Tensor) -> Tensor:
    return x.sin().sum()


@cache
def _compiled(part: Callable[..., Any]) -> tuple[tuple[type[Exception], ...], Callable[..., Any]]:
    """What the compiler raises, and the part compiled. Its import takes two seconds: only where it is used."""
    from torch._dynamo import config as of_programs
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
    from torch._functorch import config as of_gradients

    # Two gradients are taken of what a discriminator says of generated frames: the first may not reuse what is kept.
    of_gradients.donated_buffer = False
    of_programs.fail_on_recompile_limit_hit = True  # else further shapes would silently run uncompiled
    of_programs.recompile_limit = MAX_PROGRAMS
    return (TorchDynamoException, FailOnRecompileLimitHit), torch.compile(part, dynamic=False)
