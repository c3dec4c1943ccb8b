"""What became usual after the paper, as a textbook has it: spectral norms, R1, augmentation of what is judged.

Parts of `textbook_step`; all are off by default.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vid2vid_dist.config.schema import Config
from vid2vid_dist.models.augment import Augmentation


@torch.no_grad()
def iterate(module: nn.Module) -> None:
    """One step of the power iteration of every spectral norm."""
    state = module.state_dict()
    for name in (name.removesuffix("0._u") for name in state if name.endswith("._u")):
        owner = module.get_submodule(name.removesuffix(".parametrizations.weight."))
        kernel, u, v = (state[name + part] for part in ("original", "0._u", "0._v"))
        matrix = (kernel.transpose(0, 1) if isinstance(owner, nn.ConvTranspose2d) else kernel).flatten(1)
        u.copy_(F.normalize(matrix @ v, dim=0))
        v.copy_(F.normalize(matrix.T @ u, dim=0))


def colours(cfg: Config, role: str) -> slice:
    """The channels of what a discriminator sees that are colours."""
    return slice(0, 3 * cfg.discriminator.n_frames_D) if role.startswith("temporal") else slice(-3, None)


def judge(cfg: Config, role: str, module: nn.Module, x: Tensor, drawn: Sequence[Augmentation]) -> list[list[Tensor]]:
    """A pass of a discriminator."""
    outputs: list[list[Tensor]] = module(
        augmented(x, colours(cfg, role), drawn, strength_of(cfg, module)) if cfg.discriminator.augment != "none" else x)
    return outputs


def in_use(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Networks whose augmentation, if it adapts, happens half of the time: at first it never does."""
    for module in modules.values():
        for name, p in module.named_parameters():
            if name == "strength":
                nn.init.constant_(p, 0.5)
    return modules


def strength_of(cfg: Config, module: nn.Module) -> float:
    """How often what a discriminator sees is augmented."""
    return module.get_parameter("strength").item() if cfg.discriminator.augment == "adaptive" else 1.0


def pull(cfg: Config, module: nn.Module, on_real: list[list[Tensor]]) -> Tensor:
    """What moves the strength: up where more than 0.8 of the real patches are taken for real, and within [0, 1]."""
    scores = torch.cat([score.flatten() for *_, score in on_real])
    middle = 0.5 if cfg.loss.gan_mode == "ls" else 0.0
    share = 0.8 - (scores > middle).double().mean().item()
    now = strength_of(cfg, module)
    return 2 * share * module.get_parameter("strength").sum() * (now > 0 if share > 0 else now < 1)


def r1(cfg: Config, role: str, module: nn.Module, real: Tensor, drawn: Sequence[Augmentation]) -> Tensor:
    """Half the squared gradient of the mean scores of all scales to the colours of real frames (N, C, H, W)."""
    real = real.detach().requires_grad_()
    score = torch.stack([score.mean(dim=(1, 2, 3)) for *_, score in judge(cfg, role, module, real, drawn)]).sum()
    (gradient,) = torch.autograd.grad(score, real, create_graph=True)
    weight = cfg.loss.r1_every * cfg.loss.r1_gamma
    return weight * gradient[:, colours(cfg, role)].pow(2).sum() / (2 * len(real))


def augmented(x: Tensor, channels: slice, drawn: Sequence[Augmentation], strength: float) -> Tensor:
    """Every row (C, H, W) with what was drawn for its clip; the clips take turns."""
    return torch.stack([_augmented(row, channels, drawn[i % len(drawn)], strength) for i, row in enumerate(x)])


def _augmented(row: Tensor, of_colours: slice, drawn: Augmentation, strength: float) -> Tensor:
    colour, move, cut = (chance < strength for chance in drawn.chances)
    channels = list(row)
    for first in range(len(channels))[of_colours][::3] if colour else ():
        frame = torch.stack(channels[first:first + 3]) + drawn.brightness
        frame = drawn.saturation * frame + (1 - drawn.saturation) * frame.mean(dim=0)
        frame = drawn.contrast * frame + (1 - drawn.contrast) * frame.mean()
        channels[first:first + 3] = list(frame)
    row = torch.stack(channels)
    outside = torch.zeros(row.shape[1:], dtype=torch.bool)
    hole = torch.ones(row.shape[1:], dtype=torch.bool)
    for axis, (moved, centre) in enumerate(zip(drawn.moved, drawn.hole, strict=True)):
        side = row.shape[1 + axis]
        here, farthest, length = torch.arange(side), round(side / 8), side // 2
        source = here - move * (int(moved * (2 * farthest + 1)) - farthest)
        row = row.index_select(1 + axis, source % side)
        shape = (-1, 1) if axis == 0 else (1, -1)
        outside |= ((source < 0) | (source >= side)).view(shape)
        start = int(centre * side) - length // 2
        hole &= ((here >= start) & (here < start + length)).view(shape)
    return row * ~(outside | hole & cut)
