"""Tiny float64 networks, chunks of noise, and the adversarial losses as a textbook has them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from vid2vid_dist.engine.run.lane import Chunk

from tools.solo_grid import solo_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.optimizer import PlainEngine
from vid2vid_dist.models.generator import GeneratedChunk
from vid2vid_dist.models.labels import EncodedLabels
from vid2vid_dist.training.curriculum import AdamSettings

B, T, N_PAST, H, W = 2, 4, 2, 16, 32
SMALL = [
    "data.label_nc=4", "generator.ngf=4", "generator.n_blocks=2", "generator.n_downsample_G=2", "discriminator.ndf=4",
    "optim.precision=fp64", "optim.backend=plain",
]
LAMBDA, SHARE = 10.0, 0.25


def config(*overrides: str) -> Config:
    return load_config(None, [*SMALL, *overrides])


def engine(module: nn.Module) -> PlainEngine:
    return PlainEngine(module.double(), AdamSettings(1e-3, (0.5, 0.999)), solo_grid())


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).tanh()


def chunk(cfg: Config, height: int = H, width: int = W) -> Chunk:
    labels = noise(0, B, N_PAST + T, cfg.label_channels, height, width)
    return Chunk(EncodedLabels(labels), noise(1, B, N_PAST + T, 3, height, width), N_PAST, is_first=True)


def made(cfg: Config, height: int = H, width: int = W) -> GeneratedChunk:
    fake = noise(2, B, T, 3, height, width)
    if cfg.generator.no_flow:
        return GeneratedChunk(fake, fake, None, None, [])
    flow, weight = noise(4, B, T, 2, height, width), noise(5, B, T, 1, height, width).abs()
    return GeneratedChunk(fake, noise(3, B, T, 3, height, width), flow, weight, [])


# The terms as the paper writes them, one forward of a discriminator for each.


def gan(outputs: list[list[Tensor]], sign: int, mode: str, generator: bool = False) -> Tensor:
    """`sign` +1 for what should look real, -1 for what should look fake."""
    terms = []
    for *_, score in outputs:
        if mode == "ls":
            terms.append(((score - (sign + 1) / 2) ** 2).mean())
        else:
            terms.append(-score.mean() if generator else (1 - sign * score).clamp(min=0).mean())
    return torch.stack(terms).sum()


def matching(cfg: Config, fake: list[list[Tensor]], real: list[list[Tensor]]) -> Tensor:
    pairs = [(f, r) for fs, rs in zip(fake, real, strict=True) for f, r in zip(fs[:-1], rs[:-1], strict=True)]
    distances = [(f - r.detach()).abs().mean() for f, r in pairs]
    scale = LAMBDA * 4 / (cfg.discriminator.n_layers_D + 1) / cfg.discriminator.num_D
    return scale * torch.stack(distances).sum() if distances else torch.zeros(())


class Textbook:
    """Losses of one discriminator by three forwards: real, fake held constant, fake for the generator."""

    def __init__(self, cfg: Config, discriminator: Callable[[Tensor], list[list[Tensor]]], real: Tensor) -> None:
        self.cfg, self.discriminator, self.real, self.mode = cfg, discriminator, real, cfg.loss.gan_mode

    def for_generator(self, fake: Tensor) -> Tensor:
        outputs = self.discriminator(fake)
        return gan(outputs, 1, self.mode, generator=True) + matching(self.cfg, outputs, self.discriminator(self.real))

    def for_weights(self, fake: Tensor) -> Tensor:
        return gan(self.discriminator(fake.detach()), -1, self.mode) + gan(self.discriminator(self.real), 1, self.mode)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def expected_gradients(loss: Tensor, module: nn.Module) -> dict[str, Tensor]:
    module.zero_grad()
    loss.backward()
    return gradients(module)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert any(tensor.abs().max() > 1e-6 for tensor in expected.values())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
