"""How many operations a step gives to its device, and how much arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

if TYPE_CHECKING:
    from vid2vid_dist.engine.run.timing import Span


class HasCurrent(Protocol):
    """Names the span of time that is on, as a `Timer`."""

    @property
    def current(self) -> str: ...


class Operations(TorchDispatchMode):
    """Counts what is given to the device inside the `with`, by the span of time that is on: about its kernels. `flops`:
    of convolutions and matrix products, a multiply-add counts as two."""

    def __init__(self, timer: HasCurrent) -> None:
        super().__init__()
        self._timer = timer
        self.of_span: Counter[str] = Counter()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        on_device = any(isinstance(x, torch.Tensor) for x in tree_leaves((args, kwargs, found)))
        if on_device and not func.is_view and "empty" not in func.overloadpacket.__name__:
            self.of_span[self._timer.current] += 1
        if func.overloadpacket in flop_registry:
            self.flops += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=found)
        return found

    def by_kind(self, spans: Iterable[Span]) -> dict[str, int]:
        """By kind of task; the rest is not in it."""
        kinds = {span.name: str(span.key) for span in spans if span.key is not None}
        found: Counter[str] = Counter()
        for name, kind in kinds.items():
            found[kind] += self.of_span[name]
        return dict(found)
