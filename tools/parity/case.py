"""One golden case and the outcome of checking it."""

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


@dataclass
class Case:
    """A case of the golden data: a JSON file, and mostly a `.safetensors` file beside it.

    Attributes:
        kind: the module of `tools.parity` that checks it.
        name: for the table only; nothing may depend on it.
        path: the JSON file.
        meta: its content.
        frames: folder of the video frames that data cases read, or None.
    """

    kind: str
    name: str
    path: Path
    meta: dict[str, Any]
    frames: Path | None = None

    @cached_property
    def options(self) -> dict[str, Any]:
        """The original's options of this case, by name; `args` (a command line) is parsed."""
        return self.meta["options"] if "options" in self.meta else parse_args(self.meta.get("args", []))

    def tensors(self) -> dict[str, torch.Tensor]:
        """The stored tensors, as stored (half-precision weights are exact in float32)."""
        return load_file(self.path.with_suffix(".safetensors"))


@dataclass
class Check:
    """One comparison; `error` is in the same measure as `tolerance`, and NaN is a failure."""

    what: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def parse_args(args: list[str]) -> dict[str, Any]:
    """A command line of the original as a dict: `--flag` is True, `--name value` a number or text."""
    options: dict[str, Any] = {}
    for word, following in pairwise([*args, "--"]):
        if word.startswith("--"):
            options[word[2:]] = True if following.startswith("--") else _literal(following)
    return options


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
