"""torch.cuda, NCCL and files of tensors for the GPU that is not there: what they would do, and would refuse."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from tests.logical_gpu.audit import AUDIT
from tests.logical_gpu.device import GPU, LogicalGpu, OnGpu, inside, is_pinned, pin, to_gpu  # before torch

os.environ["DS_ACCELERATOR"] = "cuda"

import safetensors
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

COLLECTIVES = ("all_reduce", "broadcast", "reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter",
               "reduce_scatter_tensor", "_all_gather_base", "_reduce_scatter_base", "isend", "irecv", "send", "recv")
OBJECTS = ("all_gather_object", "broadcast_object_list")  # they go through the GPU and back


class Stream:
    """One like any other: all is done at once."""

    def __init__(self, *args: Any, **options: Any) -> None: ...

    def wait_stream(self, other: Stream) -> None: ...

    def wait_event(self, event: Event) -> None: ...

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        AUDIT.wait("Stream.synchronize")


class Event:
    """The host may wait for it at no cost where it has queued more since: the GPU does not stand still. So may other
    threads of it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._recorded = 0

    def record(self, stream: Stream | None = None) -> None:
        self._recorded = sum(AUDIT.operations.values())

    def wait(self, stream: Stream | None = None) -> None: ...

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        if self._recorded == sum(AUDIT.operations.values()) and threading.current_thread() is threading.main_thread():
            AUDIT.wait("Event.synchronize")

    def elapsed_time(self, other: Event) -> float:
        return 0.0


@contextmanager
def _stream(stream: Stream | None) -> Iterator[None]:
    yield


def install() -> None:
    """Let torch see one GPU, from now on and in this thread; threads that compute there enter `LogicalGpu`."""
    cuda, only = torch.cuda, Stream()
    for name, value in {
        "is_available": True, "device_count": 1, "current_device": 0, "is_bf16_supported": True,
        "get_device_capability": (9, 0), "get_device_name": "logical GPU", "memory_allocated": 0,
        "max_memory_allocated": 0, "memory_reserved": 0, "max_memory_reserved": 0, "mem_get_info": (80 << 30, 80 << 30),
        "set_device": None, "_lazy_init": None, "empty_cache": None, "reset_peak_memory_stats": None,
        "current_stream": only, "default_stream": only, "set_rng_state": None,
        "get_device_properties": SimpleNamespace(total_memory=80 << 30, uuid="none", name="logical GPU"),
    }.items():
        setattr(cuda, name, lambda *args, value=value, **options: value)
    cuda.get_rng_state = lambda *args: torch.zeros(16, dtype=torch.uint8)
    cuda.synchronize = lambda *args: AUDIT.wait("torch.cuda.synchronize")
    cuda.Stream, cuda.Event, cuda.stream = Stream, Event, _stream  # type: ignore[assignment, misc]
    cuda.ByteTensor = lambda *args: torch.tensor(*args, dtype=torch.uint8, device=GPU)
    cuda.FloatTensor = lambda *args: torch.tensor(*args, dtype=torch.float32, device=GPU)
    cuda.nvtx = SimpleNamespace(range_push=lambda *args: None, range_pop=lambda *args: None)
    _tensors()
    _files()
    LogicalGpu().__enter__()
    torch._C._set_only_lift_cpu_tensors(True)


def _tensors() -> None:
    move, numpy, tolist = nn.Module.to, Tensor.numpy, Tensor.tolist

    def module_to(self: nn.Module, *args: Any, **options: Any) -> nn.Module:
        device, dtype, *_ = torch._C._nn._parse_to(*args, **options)
        return to_gpu(self, dtype) if device is not None and device.type == "cuda" else move(self, *args, **options)

    def to_numpy(self: Tensor, *, force: bool = False) -> Any:
        if not isinstance(self, OnGpu):
            return numpy(self, force=force)
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        AUDIT.wait("numpy(force=True)")
        return self.inner.detach().resolve_conj().numpy()

    def to_list(self: Tensor) -> Any:
        if not isinstance(self, OnGpu):
            return tolist(self)
        AUDIT.wait("tolist")
        return self.inner.tolist()

    nn.Module.to = module_to  # type: ignore[method-assign, assignment]
    Tensor.numpy, Tensor.tolist = to_numpy, to_list  # type: ignore[method-assign, assignment]
    Tensor.pin_memory, Tensor.is_pinned = (  # type: ignore[method-assign]
        lambda self, *args: pin(self.clone()), lambda self, *args: is_pinned(self))
    Tensor.record_stream = lambda self, stream: None  # type: ignore[method-assign]


def _files() -> None:
    """safetensors reads onto a GPU past torch's dispatcher, and saves from the host only."""
    load, save, open_file = safetensors.torch.load_file, safetensors.torch.save_file, safetensors.safe_open

    def load_file(path: Any, device: Any = "cpu") -> dict[str, Tensor]:
        return {name: OnGpu(x) if str(device).startswith("cuda") else x for name, x in load(path).items()}

    def save_file(tensors: dict[str, Tensor], *args: Any, **options: Any) -> None:
        if any(isinstance(x, OnGpu) for x in tensors.values()):
            AUDIT.refuse("save_file of tensors on the GPU")
        save({name: inside(x) for name, x in tensors.items()}, *args, **options)

    class Open:
        def __init__(self, path: Any, framework: str, device: str = "cpu") -> None:
            self._file, self._on_gpu = open_file(path, framework), str(device).startswith("cuda")

        def __enter__(self) -> Open:
            self._file.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self._file.__exit__(*error)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def get_tensor(self, key: str) -> Tensor:
            found = self._file.get_tensor(key)
            return OnGpu(found) if self._on_gpu else found

    safetensors.torch.load_file, safetensors.torch.save_file = load_file, save_file
    safetensors.safe_open = Open  # type: ignore[misc, assignment]


def install_nccl() -> None:
    """Collectives go over gloo on the tensors inside, after what NCCL would have said to them."""
    start, new_group = dist.init_process_group, dist.new_group
    on_host: list[Any] = []  # groups that are gloo's on a GPU, too

    def make_group(*args: Any, **options: Any) -> Any:
        group = new_group(*args, **options)
        if options.get("backend") == "gloo":
            on_host.append(group)
        return group

    def over_gloo(call: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*args: Any, **options: Any) -> Any:
            given = [x for x in tree_leaves((args, options)) if isinstance(x, Tensor)]
            if not any(options.get("group") is group for group in on_host):
                if any(not isinstance(x, OnGpu) for x in given):
                    AUDIT.refuse(f"{call.__name__} of a tensor on the host: NCCL has none")
                if any(not x.is_contiguous() for x in given):
                    AUDIT.refuse(f"{call.__name__} of a tensor that is not contiguous")
            args, options = tree_map(inside, (args, options))
            return call(*args, **options)

        return checked

    def through_gpu(call: Callable[..., Any]) -> Callable[..., Any]:
        def waiting(*args: Any, **options: Any) -> Any:
            if not any(options.get("group") is group for group in on_host):
                AUDIT.wait(call.__name__)
            return call(*args, **options)

        return waiting

    dist.init_process_group = lambda backend, *args, **options: start("gloo", *args, **options)
    dist.new_group = make_group
    for name in COLLECTIVES:
        setattr(dist, name, over_gloo(getattr(dist, name)))
    for name in OBJECTS:
        setattr(dist, name, through_gpu(getattr(dist, name)))
