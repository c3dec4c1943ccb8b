"""Tensors that lie on the CPU but say, and are treated as if, they lay on cuda:0. Values are real.

Every operation is dispatched to the CPU tensors inside, after a check of what a GPU would have said to it. Import
this module before torch: its device guard must be there when torch's CPU library is.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import weakref
from pathlib import Path
from typing import Any

assert "torch" not in sys.modules, "import tests.logical_gpu.device before torch"
_torch = Path(str(importlib.util.find_spec("torch").origin)).parent / "lib"  # type: ignore[union-attr]
for _name in ("libc10.so", "libtorch_cpu.so"):
    ctypes.CDLL(str(_torch / _name), ctypes.RTLD_GLOBAL)
_guard = ctypes.CDLL(os.environ["LOGICAL_GPU_GUARD"], ctypes.RTLD_GLOBAL)

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.logical_gpu.audit import AUDIT

_guard.install()
GPU = torch.device("cuda", 0)
aten = torch.ops.aten
# A GPU takes an index from the CPU, for which the host waits.
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._unsafe_index.Tensor,
            aten._index_put_impl_.default}
# Their result decides what the host does next, or how large it is.
WAITING = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive", "bincount",
           "masked_select", "equal", "is_nonzero", "repeat_interleave"}
COPIES = {"_to_copy", "copy_", "copy", "to", "_copy_from"}

_pinned: set[int] = set()


def pin(tensor: Tensor) -> Tensor:
    """Let its memory count as pinned, as long as it is there."""
    storage = tensor.untyped_storage()
    _pinned.add(storage._cdata)
    weakref.finalize(storage, _pinned.discard, storage._cdata)
    return tensor


def is_pinned(tensor: Tensor) -> bool:
    return tensor.untyped_storage()._cdata in _pinned


class OnGpu(Tensor):
    """A tensor on the GPU that is not there; `inner` is where it lies."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> OnGpu:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=GPU, requires_grad=requires_grad)
        made.inner = inner.detach() if inner.requires_grad else inner
        return made

    @property
    def data(self) -> Tensor:
        with torch.no_grad():
            return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        assert isinstance(value, OnGpu), "the data of a tensor on the GPU set to one on the CPU"
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.inner = value.inner

    is_cpu, is_cuda = False, True

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({tuple(self.shape)}, {self.dtype})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        made: Tensor = OnGpu(self.inner.clone())
        if isinstance(self, nn.Parameter):
            made = nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


class LogicalGpu(TorchDispatchMode):
    """Within, what asks for a GPU gets this one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        wanted = device is not None and torch.device(device).type == "cuda"
        if wanted or any(isinstance(x, OnGpu) for x in tree_leaves((args, kwargs))):
            return dispatch(func, args, kwargs)
        if not kwargs.get("pin_memory"):
            return func(*args, **kwargs)
        return pin(func(*args, **{**kwargs, "pin_memory": False}))


def inside(x: Any) -> Any:
    return x.inner if isinstance(x, OnGpu) else x


def dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation with a tensor on the GPU in it, or one to come out of it."""
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    here = [x for x in given if isinstance(x, OnGpu)]
    name = func.overloadpacket.__name__
    device = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    AUDIT.operations[AUDIT.phase] += 1
    if name in COPIES:
        to_gpu = _copy(name, args, kwargs, device)
    else:
        _check(func, name, args, given, here)
        to_gpu = device.type == "cuda" if device is not None else bool(here)
    plain_args, plain = tree_map(inside, (args, kwargs))
    if device is not None:
        plain["device"] = torch.device("cpu")
    plain.pop("pin_memory", None)
    if name == "_to_copy":
        plain.pop("non_blocking", None)
    out = func(*plain_args, **plain)
    if not to_gpu:
        return out
    written = _written(func, args, kwargs)
    return tree_map(lambda x: written[id(x)] if id(x) in written else OnGpu(x) if isinstance(x, Tensor) else x, out)


def _written(func: Any, args: Any, kwargs: dict[str, Any]) -> dict[int, OnGpu]:
    """What is changed in place comes back as itself."""
    found = {}
    of_args = [*zip(func._schema.arguments, args, strict=False),
               *((x, kwargs[x.name]) for x in func._schema.arguments if x.name in kwargs)]
    for argument, value in of_args:
        if argument.alias_info is not None and argument.alias_info.is_write:
            for x in value if isinstance(value, list | tuple) else [value]:
                if isinstance(x, OnGpu):
                    found[id(x.inner)] = x
    return found


def _copy(name: str, args: Any, kwargs: dict[str, Any], device: torch.device | None) -> bool:
    """Note a copy between host and GPU; whether its result lies on the GPU."""
    if name == "copy_":
        target, source = args[0], args[1]
        to_gpu, quiet = isinstance(target, OnGpu), bool(args[2] if len(args) > 2 else kwargs.get("non_blocking"))
    else:
        target, source = None, args[0]
        to_gpu = device.type == "cuda" if device is not None else isinstance(source, OnGpu)
        quiet = bool(kwargs.get("non_blocking"))
    if to_gpu and not isinstance(source, OnGpu):
        if not is_pinned(source):
            AUDIT.copy_from_pageable()
        elif not quiet:
            AUDIT.wait("copy to the GPU")
    elif not to_gpu and isinstance(source, OnGpu):
        if not quiet:
            AUDIT.wait("copy from the GPU")
        elif target is None or not is_pinned(target):
            AUDIT.refuse("a copy from the GPU that nobody waits for, into memory that is not pinned")
    return to_gpu


def _check(func: Any, name: str, args: Any, given: list[Tensor], here: list[OnGpu]) -> None:
    elsewhere = [x for x in given if not isinstance(x, OnGpu) and (x.dim() or name in ("cat", "stack"))]
    if here and elsewhere:
        indices = [i for i in args[1] if i is not None] if func in INDEXING else []
        if isinstance(args[0], OnGpu) and all(any(x is i for i in indices) for x in elsewhere):
            AUDIT.wait(f"{name} by an index from the host")
        else:
            AUDIT.refuse(f"{func} of tensors on the host, {[(tuple(x.shape), x.dtype) for x in elsewhere]}, and on "
                         "the GPU")
            raise RuntimeError(f"Expected all tensors to be on the same device: {func}")
    if here and name in WAITING:
        AUDIT.wait(name)
    if here and name.strip("_").startswith("index") and any(
            isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in tree_leaves(args[1])):
        AUDIT.wait(f"{name} by a mask")


def to_gpu(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """`module.to(cuda, dtype)`, which would put data of another kind into the parameters that are there."""
    def moved(x: Tensor) -> Tensor:
        x = inside(x).detach()
        return OnGpu(x.to(dtype) if dtype is not None and x.is_floating_point() else x.clone())

    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None and not (isinstance(p, OnGpu) and dtype in (None, p.dtype)):
                part._parameters[name] = nn.Parameter(moved(p), requires_grad=p.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None and not (isinstance(buffer, OnGpu) and dtype in (None, buffer.dtype)):
                part._buffers[name] = moved(buffer)
    return module
