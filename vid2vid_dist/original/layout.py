"""The original's checkpoint folder: which file holds which of our weights (spec: networks 10)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.roles.build import build_modules, role_specs


@dataclass(frozen=True)
class Part:
    """One file, `EPOCH_net_NAME.pth`: the tensors of a role whose names begin with `prefix`, which it leaves out."""

    name: str
    role: str
    prefix: str
    tensors: dict[str, Tensor]  # what the file holds: name to a tensor of its shape, without data


def parts(cfg: Config) -> list[Part]:
    """The files of a folder with this configuration."""
    with torch.device("meta"):
        states = {role: module.state_dict() for role, module in build_modules(role_specs(cfg)).items()}
    names = {"image": "D", "face": "D_f"} | {role: f"D_T{role[9:]}" for role in states if role.startswith("temporal_")}
    found = [(f"G{s}", "generator", f"netG{s}.") for s in range(cfg.generator.n_scales_spatial)]
    found += [(names[role], role, "") for role in states if role != "generator"]
    return [Part(name, role, prefix, {key.removeprefix(prefix): tensor for key, tensor in states[role].items()
                                      if key.startswith(prefix)}) for name, role, prefix in found]
