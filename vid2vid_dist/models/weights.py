"""Loading published weights of frozen networks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vid2vid_dist.errors import UserError


def load_published(network: nn.Module, path: str, fix: str, prefix: str = "") -> None:
    """Fill `network` from a torchvision weights file; of a larger network, the entries under `prefix`.

    Only tensors are unpickled: the file cannot run code.

    Raises `UserError`, ending with `fix`, when the file is missing, unreadable or another network's.
    """
    if not Path(path).is_file():
        raise UserError(f"no weights file at '{path}': {fix}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken pickles make the unpickler raise whatever there is
        raise UserError(f"{path} is not a readable weights file ({type(error).__name__}): {fix}") from error
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise UserError(f"{path} holds no table of weights: {fix}")
    wanted = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(wanted)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{path} holds the weights of another network: {fix}") from error
