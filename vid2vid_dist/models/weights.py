"""Weights from elsewhere: published ones of frozen networks, the original's, single files."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save_file
from torch import Tensor, nn

from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import read_bytes, reading, shown

log = logging.getLogger(__name__)

UMASK = os.umask(0o022)
os.umask(UMASK)


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file for whoever may read the files of this process: the library makes it ours alone."""
    save_file(tensors, path, metadata=metadata)
    path.chmod(0o666 & ~UMASK)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file: read, since a file that is mapped ends the process (SIGBUS) when somebody
    cuts it, or another host clears it away. Raises what damaged files raise."""
    return load(read_bytes(path, path.stat().st_size))


def metadata_of(content: bytes) -> dict[str, str]:
    """Of a safetensors file that can be loaded; the library gives it of files that it maps only."""
    n_header = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] | None = json.loads(content[8 : 8 + n_header]).get("__metadata__")
    return metadata or {}


def read_weights(path: Path, wanted: Mapping[str, Tensor], fix: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which are those of `wanted`: names, shapes, kinds of number.

    Raises `UserError`, ending with `fix`, with the file, the first differing tensors and what was found.
    """
    with reading(path, fix):
        found = load_tensors(path)
    wrong = weight_differences(wanted, found)
    if wrong:
        rest = f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise UserError(f"{path} does not fit: {'; '.join(wrong[:4])}{rest}: {fix}")
    return found


def weight_differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What keeps `found` from being loaded as `wanted`, one text per tensor."""
    texts = []
    for name in [*wanted, *(found.keys() - wanted.keys())]:
        if name not in found:
            texts.append(f"{name} is missing in the file")
        elif name not in wanted:
            texts.append(f"{shown(name)} is not part of the network")
        elif wanted[name].shape != found[name].shape:
            texts.append(f"{name} has shape {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}")
        elif wanted[name].is_floating_point() != found[name].is_floating_point():
            texts.append(f"{name} has the number format {found[name].dtype}")
    return texts


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The table of tensors, by name, of a `.safetensors` file or of one that `torch.save` wrote.

    What wraps them, `{"state_dict": …}` and the `module.` of DataParallel, is taken off and logged. Only tensors are
    unpickled: the file cannot run code. Raises `ValueError` for every other content.
    """
    try:
        if path.suffix == ".safetensors":
            return load_tensors(path)
        table = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken pickles make the unpickler raise whatever there is
        raise ValueError(f"not a readable weights file ({type(error).__name__})") from error
    if isinstance(table, dict) and isinstance(table.get("state_dict"), dict):
        log.warning("%s: taken are the weights under state_dict; left out: %s", path,
                    shown([name for name in table if name != "state_dict"]))
        table = table["state_dict"]
    if isinstance(table, dict) and table and all(str(name).startswith("module.") for name in table):
        log.warning("%s: names without their prefix module., which DataParallel has put there", path)
        table = {str(name).removeprefix("module."): tensor for name, tensor in table.items()}
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


def load_script(path: str, fix: str) -> torch.jit.ScriptModule:
    """The network of a TorchScript file, in evaluation mode, on the CPU. The file holds its program as well.

    Raises `UserError`, ending with `fix`, when the file is missing or something else.
    """
    if not Path(path).is_file():
        raise UserError(f"no weights file at '{path}': {fix}")
    with reading(Path(path), f"it is no TorchScript file: {fix}"):
        return torch.jit.load(path, map_location="cpu").eval()
