"""Weights of an earlier run as the starting point of a new one: coarse to fine, wider discriminators."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from vid2vid_dist.errors import UserError
from vid2vid_dist.models.manifest import NAME as MANIFEST
from vid2vid_dist.models.manifest import entries_beside, require_as_written
from vid2vid_dist.models.weights import load_tensors
from vid2vid_dist.training.checkpoint import newest_checkpoint, weights_file
from vid2vid_dist.untrusted import reading

OTHER = "name another checkpoint in run.load_pretrain"


@dataclass(frozen=True)
class PretrainReport:
    """What became of each tensor of a role, by name prefix."""

    role: str
    loaded: list[str]
    fresh: list[str]  # of ours, not in the file or of another shape: left as initialised
    unused: list[str]  # of the file, not ours

    def line(self) -> str:
        text = f"{self.role}: {len(self.loaded)} tensors loaded"
        if self.fresh:
            text += f", {len(self.fresh)} left as initialised ({_prefixes(self.fresh)})"
        if self.unused:
            text += f", {len(self.unused)} of the file not used ({_prefixes(self.unused)})"
        return text


def find_weights(path: str) -> Path:
    """The checkpoint folder that `run.load_pretrain` names: a run folder or a checkpoint folder."""
    folder = Path(path)
    if (folder / "checkpoints").is_dir():
        newest = newest_checkpoint(folder)
        if newest is None:
            raise UserError(f"run.load_pretrain={path}: this run has no checkpoint yet")
        return newest
    if not weights_file(folder, "generator").is_file():
        raise UserError(f"run.load_pretrain={path}: no {weights_file(folder, 'generator')}; name a run folder "
                        "(runs/NAME) or one of its checkpoints")
    entries = entries_beside(folder, OTHER)
    require_as_written(folder, entries, [name for name in entries if "/" not in name],
                       f"{OTHER}, or remove {MANIFEST} to take what is there")
    return folder


def load_pretrained(folder: Path, role: str, module: nn.Module) -> PretrainReport:
    """Copy every tensor whose name and shape agree; the rest of `module` keeps its initial values.

    Discriminator scales are numbered from the coarsest, so when frames double in size and num_D grows by one,
    each patch discriminator goes on at the resolution that it was trained at (spec: networks 10).
    """
    own = module.state_dict()
    file = weights_file(folder, role)
    with reading(file, OTHER):
        saved = load_tensors(file) if file.is_file() else {}
    loaded = [name for name, tensor in own.items() if name in saved and saved[name].shape == tensor.shape]
    for name in loaded:
        own[name].copy_(saved[name])
    return PretrainReport(role, loaded, [n for n in own if n not in loaded], [n for n in saved if n not in own])


def _prefixes(names: list[str]) -> str:
    """The distinct first two parts of dotted names: `netG1.model_up_img`."""
    found = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
