"""Weights from elsewhere: published ones of frozen networks, the original's, single files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vid2vid_dist.errors import UserError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The table of tensors, by name, of a `.safetensors` file or of one that `torch.save` wrote.

    Only tensors are unpickled: the file cannot run code. Raises `ValueError` for every other content.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        table = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken pickles make the unpickler raise whatever there is
        raise ValueError(f"not a readable weights file ({type(error).__name__})") from error
    if not isinstance(table, dict) or not all(isinstance(name, str) and _is_stored(x) for name, x in table.items()):
        raise ValueError("no table of tensors")
    return table


def _is_stored(tensor: object) -> bool:
    """Whether this is a tensor with a real number in the file for each of its own: strides can promise any amount."""
    return (isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
            and not tensor.is_quantized and not tensor.is_complex()
            and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes())


def load_published(network: nn.Module, path: str, fix: str, prefix: str = "") -> None:
    """Fill `network` from a torchvision weights file; of a larger network, the entries under `prefix`.

    Raises `UserError`, ending with `fix`, when the file is missing, unreadable or another network's.
    """
    if not Path(path).is_file():
        raise UserError(f"no weights file at '{path}': {fix}")
    try:
        weights = read_tensors(Path(path))
    except ValueError as error:
        raise UserError(f"{path}: {error}: {fix}") from None
    wanted = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(wanted)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{path} holds the weights of another network: {fix}") from error
