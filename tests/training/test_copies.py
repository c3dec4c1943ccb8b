"""A checkpoint's tensors are copied whole, and in few operations."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.updates import Verdict
from vid2vid_dist.training import state
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
        files, _ = trainer.state.snapshot()
    n_tensors = sum(len(content) for content in files.values() if not isinstance(content, str))
    assert copies.n <= 10 * len(files)
    assert n_tensors > 20 * len(files)


def test_what_is_copied_waits_for_the_next_updates_only(
        configure: Callable[..., Config], grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the copies are made while the next step runs: its tasks change nothing of what they read."""
    read: list[tuple[Tensor, Tensor]] = []
    n_compared = 0

    def noting(tensors: dict[str, Tensor], buffers: Buffers) -> dict[str, Tensor]:
        read.extend((x, x.clone()) for x in tensors.values())
        return copied(tensors, buffers)

    monkeypatch.setattr(state, "copied", noting)
    trainer = Trainer(configure("run.max_steps=3", "run.save_every_steps=1", "optim.ema_decay=0.9",
                                "discriminator.spectral_norm=true"), grid)
    may_update = trainer.faults.may_update

    def before_updates(values: Mapping[str, Tensor]) -> Verdict:
        nonlocal n_compared
        assert all(x.equal(then) for x, then in read)
        n_compared += len(read)
        read.clear()
        return may_update(values)

    monkeypatch.setattr(trainer.faults, "may_update", before_updates)
    trainer.run()
    assert n_compared > 100


def test_the_next_copy_takes_the_same_memory_where_it_fits() -> None:
    buffers: Buffers = {}
    places = [copied({"a": torch.full((n,), 1.0 * n)}, buffers)["a"].data_ptr() for n in (4, 4, 5)]
    assert places[0] == places[1]
    assert buffers[0].tolist() == 5 * [5.0]
