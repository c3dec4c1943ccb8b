"""The optimiser state of a role in pieces that fit any number of ranks, any placement and any ZeRO stage.

A rank owns runs of elements of flattened parameters: of the master weights and of Adam's two moments. Every piece is
saved under `kind/parameter/first element`, so a run whose ranks own other runs of elements reads just those. This is
what DeepSpeed's Universal Checkpoint does in a conversion of its own; here there is nothing to convert, and nothing
is pickled.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

MASTER = "master"
MOMENTS = ("exp_avg", "exp_avg_sq")
STEP = "step"


@dataclass(frozen=True)
class Owned:
    """A run of elements of a flattened parameter, and where it lies in the flat tensors of its owner."""

    parameter: str
    start: int
    count: int
    offset: int


def pieces(owned: Iterable[Owned], master: Tensor, adam: dict[str, Any]) -> dict[str, Tensor]:
    """What an owner saves. `master` is flat, `adam` its torch.optim state, empty before the first step."""
    flat = {MASTER: master, **{kind: adam[kind] for kind in MOMENTS if kind in adam}}
    found = {f"{kind}/{run.parameter}/{run.start}": tensor.detach().flatten()[run.offset : run.offset + run.count]
             for run in owned for kind, tensor in flat.items()}
    return found | ({STEP: torch.as_tensor(adam[STEP])} if STEP in adam else {})


class SavedPieces:
    """The pieces of one role in the files of a folder, whoever wrote them."""

    def __init__(self, folder: Path) -> None:
        self._pieces: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        self.step: Tensor | None = None  # Adam's count of steps; None before the first
        for path in sorted(folder.glob("*.safetensors")):
            file = safe_open(path, "pt")  # mapped, not read
            for key in file.keys():  # noqa: SIM118 - it is no dictionary
                if key == STEP:
                    self.step = file.get_tensor(key)
                else:
                    kind, parameter, start = key.split("/")
                    self._pieces.setdefault((kind, parameter), []).append((int(start), file.get_slice(key)))

    def read_into(self, flat: Tensor, kind: str, owned: Iterable[Owned]) -> None:
        """Fill an owner's flat tensor. Raises ValueError where elements are missing."""
        for run in owned:
            end, missing = run.start + run.count, run.count
            for start, piece in self._pieces.get((kind, run.parameter), []):
                first, last = max(run.start, start), min(end, start + piece.get_shape()[0])
                if first < last:
                    at = run.offset + first - run.start
                    flat[at : at + last - first].copy_(piece[first - start : last - start])
                    missing -= last - first
            if missing:
                raise ValueError(f"{kind} of {run.parameter}: {missing} elements are missing")

    def restore(self, owned: list[Owned], master: Tensor, adam: dict[str, Any]) -> None:
        """Fill an owner's flat master weights and its torch.optim state, which becomes as it was saved."""
        with torch.no_grad():
            self.read_into(master, MASTER, owned)
            adam.clear()
            if self.step is not None:
                adam[STEP] = self.step.to(master.device, copy=True)  # where a fused Adam counts
                for kind in MOMENTS:
                    adam[kind] = torch.zeros_like(master, requires_grad=False)
                    self.read_into(adam[kind], kind, owned)
