"""What running some layers costs, counted on meta tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from vid2vid_dist.config.schema import Config
from vid2vid_dist.models.labels import EncodedLabels


@dataclass(frozen=True)
class Work:
    """One task. `flops`: convolutions and matrix products, a multiply-add counts as two. `moved`: bytes
    that everything else reads and writes. `saved`: bytes that autograd keeps for the backward pass.
    `transient`: bytes beyond those that stay, at the fullest moment while it runs."""

    flops: float = 0.0
    moved: float = 0.0
    saved: float = 0.0
    transient: float = 0.0

    def __add__(self, other: Work) -> Work:
        """One after the other."""
        return Work(self.flops + other.flops, self.moved + other.moved, self.saved + other.saved,
                    max(self.transient, other.transient))

    def __mul__(self, factor: float) -> Work:
        return Work(self.flops * factor, self.moved * factor, self.saved * factor, self.transient * factor)

    __rmul__ = __mul__


def measure(network: nn.Module, run: Callable[..., Any], *args: Any) -> tuple[Work, Any]:
    """Costs of `run(*args)` on meta tensors, and its result. Parameters of `network` do not count as saved, their
    gradients as transient: a backward pass has them all before it adds them up."""
    weights = {p.untyped_storage()._cdata for p in network.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice
    traffic = Traffic()

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = storage
        return tensor

    with FlopCounterMode(display=False) as flops, traffic, \
            torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        result = run(*args)
        network.zero_grad()
    n_saved = sum(storage.nbytes() for storage in saved.values())
    return Work(flops.get_total_flops(), traffic.moved, n_saved, traffic.peak - traffic.live), result


class Traffic(TorchDispatchMode):
    """Sums the bytes that operations other than convolutions and products read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0.0
        self.live = self.peak = 0  # bytes of what has been made and is still there, now and at most
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in self._known | given:
                self._add(x.untyped_storage())
        name = func.overloadpacket.__name__
        if not (func.is_view or func.overloadpacket in flop_registry or "empty" in name):
            if name == "grid_sampler_2d":  # reads where it samples: RAFT looks up few points of a large volume
                args = (out, *args[1:])
            self.moved += sum(x.nbytes for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor))
            if name in ("native_batch_norm", "native_batch_norm_backward"):
                # Statistics first, then the values: two passes over the inputs of full size.
                again = args[:1] if name == "native_batch_norm" else args[:2]
                self.moved += sum(x.nbytes for x in again)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        self._known.add(storage._cdata)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._remove, storage._cdata, storage.nbytes())

    def _remove(self, number: int, n_bytes: int) -> None:
        self._known.discard(number)
        self.live -= n_bytes


def backward(outputs: list[Tensor]) -> None:
    """Gradients of the parameters, and of the inputs that want one."""
    torch.autograd.backward(outputs, [torch.empty_like(x) for x in outputs])


def gradients(outputs: list[Tensor], inputs: list[Tensor]) -> None:
    """Gradients of some inputs, where they take part; the graph stays."""
    torch.autograd.grad(outputs, inputs, [torch.empty_like(x) for x in outputs], retain_graph=True, allow_unused=True)


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def meta_labels(cfg: Config, size: tuple[int, int], dtype: torch.dtype, finest: bool) -> EncodedLabels:
    """A window of label frames: class ids at the finest scale, averaged planes below."""
    n_frames, classes = cfg.generator.n_frames_G, cfg.data.label_nc if finest else 0
    planes = torch.empty(1, n_frames, cfg.label_channels - classes, *size, dtype=dtype, device="meta")
    if not classes:
        return EncodedLabels(planes)
    return EncodedLabels(planes, torch.empty(1, n_frames, 1, *size, dtype=torch.uint8, device="meta"), classes)


def label_bytes(cfg: Config, height: int, width: int, dtype: torch.dtype) -> int:
    """One frame's labels at every scale, and the regions that have one style."""
    n_bytes = 4 * height * width if cfg.generator.style_nc and cfg.data.use_instance else 0
    for halvings in range(cfg.generator.n_scales_spatial):
        window = meta_labels(cfg, (height >> halvings, width >> halvings), dtype, finest=halvings == 0)
        n_bytes += (window.planes.nbytes + (window.ids.nbytes if window.ids is not None else 0)) // window.n_frames
    return n_bytes
