"""The original's checkpoint folder: which file holds which of our weights, and the options in opt.txt (spec:
networks 10)."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vid2vid_dist.config.options import options
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.roles.build import build_modules, role_specs
from vid2vid_dist.errors import UserError
from vid2vid_dist.original.options import SAME, config_from_options
from vid2vid_dist.untrusted import read_text, shown

READ = frozenset({*SAME, "fg_labels", "n_gpus_gen", "openpose_only"} - {"ngf_option"})
MAX_BYTES = 2**20
FIXED = {"netG": "composite", "output_nc": 3}  # options of which the program knows one value


@dataclass(frozen=True)
class Part:
    """One file, `EPOCH_net_NAME.pth`: the tensors of a role whose names begin with `prefix`, which it leaves out."""

    name: str
    role: str
    prefix: str
    tensors: dict[str, Tensor]  # what the file holds: name to a tensor of its shape, without data

    @property
    def is_needed(self) -> bool:
        """Published folders hold generators only; discriminators are for training on."""
        return self.role == "generator"


def parts(cfg: Config) -> list[Part]:
    """The files of a folder with this configuration."""
    with torch.device("meta"):
        states = {role: module.state_dict() for role, module in build_modules(role_specs(cfg)).items()}
    names = {"image": "D", "face": "D_f"} | {role: f"D_T{role[9:]}" for role in states if role.startswith("temporal_")}
    found = [(f"G{s}", "generator", f"netG{s}.") for s in range(cfg.generator.n_scales_spatial)]
    found += [(names[role], role, "") for role in states if role != "generator"]
    return [Part(name, role, prefix, {key.removeprefix(prefix): tensor for key, tensor in states[role].items()
                                      if key.startswith(prefix)}) for name, role, prefix in found]


def read_options(path: Path) -> Config:
    """Our configuration from the lines `name: value` of opt.txt.

    Raises `UserError` for a file that is none, and for a network that does not exist here.
    """
    try:
        lines = read_text(path, MAX_BYTES).splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    written = {name.strip(): _literal(value.strip()) for name, value in pairs}
    for name, value in FIXED.items():
        if written.get(name, value) != value:
            raise UserError(f"{path}: {name}={shown(written[name])} is not known here: use what was "
                            f"trained with {name}={value}")
    try:
        cfg = config_from_options({name: value for name, value in written.items() if name in READ})
        known = options()
        for key in (SAME[name] for name in written if name in SAME and name in READ):
            known[key].set(cfg, known[key].convert(known[key].get(cfg), is_text=False))
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: {shown(error, 200)}: correct this option") from None
    cfg.generator.no_flow |= bool(written.get("openpose_only"))  # which the original sets after writing opt.txt
    return cfg


def write_options(cfg: Config, path: Path) -> None:
    """opt.txt of a configuration: the options that have a meaning in both programs."""
    known = options()
    values: dict[str, Any] = {name: known[key].get(cfg) for name, key in SAME.items() if name in READ}
    values |= {"fg_labels": cfg.generator.fg_labels, "n_gpus_gen": cfg.schedule.n_generator_slots,
               "openpose_only": cfg.discriminator.face_marker == "openpose", **FIXED}
    lines = [f"{name}: {value}" for name, value in sorted(values.items())]
    framed = ["------------ Options -------------", *lines, "-------------- End ----------------"]
    path.write_text("\n".join(framed) + "\n")


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last three: brackets in brackets
        return text
