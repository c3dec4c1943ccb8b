"""From a configuration to the roles of this rank, weights initialised from the seed, engines around them."""

from __future__ import annotations

import torch
from torch import nn

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.grid import Grid
from vid2vid_dist.engine.optimizer import AdamSettings, build_engine
from vid2vid_dist.engine.roles import (
    FlowRole,
    GeneratorRole,
    ImageDiscriminatorRole,
    PerceptualRole,
    TemporalDiscriminatorRole,
)
from vid2vid_dist.engine.step import Roles
from vid2vid_dist.models.discriminator import face_discriminator, image_discriminator, temporal_discriminator
from vid2vid_dist.models.flow import build_flow
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.perceptual import load_vgg19

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


def build_modules(cfg: Config) -> dict[str, nn.Module]:
    """The trained networks by role name, on the CPU in float32. The same seed gives the same weights anywhere."""
    torch.manual_seed(cfg.run.seed)
    modules: dict[str, nn.Module] = {"generator": Generator(cfg), "image": image_discriminator(cfg)}
    if cfg.discriminator.add_face_disc:
        modules["face"] = face_discriminator(cfg)
    for scale in range(cfg.discriminator.n_scales_temporal):
        modules[f"temporal_{scale}"] = temporal_discriminator(cfg)
    return modules


def build_generator_role(cfg: Config, grid: Grid, module: nn.Module, adam: AdamSettings, train_all_scales: bool) -> GeneratorRole:
    """The generator with an optimiser over the scales that are trained."""
    assert isinstance(module, Generator)
    module = module.to(grid.device, DTYPES[cfg.optim.precision])
    module.requires_grad_(train_all_scales)
    module.network(module.n_scales - 1).requires_grad_(True)
    return GeneratorRole(cfg, build_engine(module, adam, cfg.optim, grid))


def build_roles(cfg: Config, grid: Grid, modules: dict[str, nn.Module], generator_adam: AdamSettings,
                discriminator_adam: AdamSettings, temporal_adam: AdamSettings, train_all_scales: bool) -> Roles:
    """All roles on this rank. Raises `UserError` when a weights file is missing."""
    dtype = DTYPES[cfg.optim.precision]
    # The frozen networks come first: a missing file is found before anything expensive is built.
    flow = build_flow(cfg.flow).to(grid.device)
    perceptual = None if cfg.loss.no_vgg else PerceptualRole(cfg, load_vgg19(cfg.loss.vgg_weights).to(grid.device, dtype))
    modules = {name: module.to(grid.device, dtype) for name, module in modules.items()}

    def engine(name: str, adam: AdamSettings):  # type: ignore[no-untyped-def]
        return build_engine(modules[name], adam, cfg.optim, grid)

    return Roles(
        generator=build_generator_role(cfg, grid, modules["generator"], generator_adam, train_all_scales),
        image=ImageDiscriminatorRole(
            cfg, engine("image", discriminator_adam),
            engine("face", discriminator_adam) if "face" in modules else None,
        ),
        temporal=[
            TemporalDiscriminatorRole(cfg, engine(f"temporal_{scale}", temporal_adam), scale)
            for scale in range(cfg.discriminator.n_scales_temporal)
        ],
        flow=FlowRole(cfg, flow),
        perceptual=perceptual,
    )
