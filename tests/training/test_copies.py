"""A checkpoint's tensors are copied whole, and in few operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.training.copies import Buffers, copied
from vid2vid_dist.training.trainer import Trainer


class Copies(TorchDispatchMode):
    """Counts what writes elements."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += not (func.is_view or "empty" in func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_parts_of_a_flat_tensor_and_others_come_out_as_they_were(tmp_path: Any) -> None:
    flat = torch.arange(20.0)
    parts = {"a": flat[:4].view(2, 2), "b": flat[4:10], "hole": flat[12:14]}
    others = {"turned": torch.ones(3, 2).t(), "count": torch.tensor(3), "none": torch.empty(0)}
    for tensors in (parts | others, {"between": flat[10:12], **parts}, {"again": flat[3:5], **parts}):
        out = copied(tensors)
        save_file(out, tmp_path / "out.safetensors")  # which refuses tensors that overlap
        flat += 1
        read = load_file(tmp_path / "out.safetensors")
        assert list(out) == list(tensors)
        for name, x in tensors.items():
            assert torch.equal(read[name], x - 1 if name in parts or x._base is flat else x)
            assert read[name].shape == x.shape


def test_a_snapshot_takes_few_copies(configure: Callable[..., Config], grid: Grid) -> None:
    """Master weights, moments, weights, statistics and what is counted: of every role a few, not one per tensor."""
    trainer = Trainer(configure("run.max_steps=1", "optim.ema_decay=0.9"), grid)
    trainer.run()
    with Copies() as copies:
        files = trainer.state.snapshot()
    n_tensors = sum(len(content) for content in files.values() if not isinstance(content, str))
    assert copies.n <= 10 * len(files)
    assert n_tensors > 20 * len(files)


def test_the_next_copy_takes_the_same_memory_where_it_fits() -> None:
    buffers: Buffers = {}
    places = [copied({"a": torch.full((n,), 1.0 * n)}, buffers)["a"].data_ptr() for n in (4, 4, 5)]
    assert places[0] == places[1]
    assert buffers[0].tolist() == 5 * [5.0]
