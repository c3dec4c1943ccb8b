"""From a configuration to the roles of this rank, weights initialised from the seed, engines around them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vid2vid_dist.config.schema import Config, OptimConfig
from vid2vid_dist.engine.roles.discriminator_roles import ImageDiscriminatorRole, TemporalDiscriminatorRole
from vid2vid_dist.engine.roles.roles import FlowRole, GeneratorRole, PerceptualRole
from vid2vid_dist.engine.run.executor import HeldRoles
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.optimizer import MakeOptimizer, PlainEngine, RoleEngine
from vid2vid_dist.engine.run.step import Roles
from vid2vid_dist.models.compute_options import compute_options_from
from vid2vid_dist.models.discriminator import face_discriminator, image_discriminator, temporal_discriminator
from vid2vid_dist.models.flow import NoFlow, build_flow
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.perceptual import load_vgg19
from vid2vid_dist.models.precision import DTYPES


@dataclass(frozen=True)
class Optimizers:
    """How to make the optimiser of each kind of trained role."""

    generator: MakeOptimizer
    discriminator: MakeOptimizer  # image and face
    temporal: MakeOptimizer


@dataclass(frozen=True)
class FrozenNetworks:
    """The critics that are not trained: reference flow, and VGG19 features unless the loss goes without."""

    flow: nn.Module
    perceptual: nn.Module | None


def build_modules(cfg: Config) -> dict[str, nn.Module]:
    """The trained networks by role name, on the CPU in float32. The same seed gives the same weights anywhere."""
    torch.manual_seed(cfg.run.seed)
    modules: dict[str, nn.Module] = {"generator": Generator(cfg), "image": image_discriminator(cfg)}
    if cfg.discriminator.add_face_disc:
        modules["face"] = face_discriminator(cfg)
    for scale in range(cfg.discriminator.n_scales_temporal):
        modules[f"temporal_{scale}"] = temporal_discriminator(cfg)
    return modules


def build_frozen(cfg: Config) -> FrozenNetworks:
    """Raises `UserError` when a weights file is missing or not what it should be."""
    flow = NoFlow() if cfg.flow.network == "none" else build_flow(cfg.flow)
    return FrozenNetworks(flow, None if cfg.loss.no_vgg else load_vgg19(cfg.loss.vgg_weights))


def build_roles(
    cfg: Config,
    grid: Grid,
    modules: dict[str, nn.Module],
    frozen: FrozenNetworks,
    optimizers: Optimizers,
    train_all_scales: bool,
) -> Roles:
    """All roles on this rank, around the trained networks of `build_modules`."""
    dtype = DTYPES[cfg.optim.precision]

    def engine(role: str, make_optimizer: MakeOptimizer) -> RoleEngine:
        return build_engine(modules[role].to(grid.device, dtype), make_optimizer, cfg.optim, grid)

    return Roles(
        generator=build_generator_role(cfg, grid, modules["generator"], optimizers.generator, train_all_scales),
        image=ImageDiscriminatorRole(
            cfg,
            engine("image", optimizers.discriminator),
            engine("face", optimizers.discriminator) if "face" in modules else None,
        ),
        temporal=[
            TemporalDiscriminatorRole(cfg, engine(f"temporal_{scale}", optimizers.temporal), scale)
            for scale in range(cfg.discriminator.n_scales_temporal)
        ],
        flow=FlowRole(cfg, frozen.flow.to(grid.device)),
        perceptual=None if frozen.perceptual is None else PerceptualRole(cfg, frozen.perceptual.to(grid.device, dtype)),
    )


def build_held_roles(
    cfg: Config,
    holders: dict[str, Grid],
    modules: dict[str, nn.Module],
    frozen: FrozenNetworks,
    optimizers: Optimizers,
    train_all_scales: bool,
) -> HeldRoles:
    """The roles that a placement gives to this rank, each with an engine over all ranks that hold it (`Grid.holders`).

    Networks of other roles in `modules` are left alone. Every rank must call it at the same time.
    """
    dtype = DTYPES[cfg.optim.precision]

    def engine(role: str, holder: Grid, make_optimizer: MakeOptimizer) -> RoleEngine:
        return build_engine(modules[role].to(holder.device, dtype), make_optimizer, cfg.optim, holder)

    roles = HeldRoles()
    for role, holder in holders.items():  # the same order on all ranks: making an engine is collective
        if role == "generator":
            roles.generator = build_generator_role(cfg, holder, modules[role], optimizers.generator, train_all_scales)
        elif role == "image":
            face = engine("face", holder, optimizers.discriminator) if "face" in modules else None
            roles.image = ImageDiscriminatorRole(cfg, engine(role, holder, optimizers.discriminator), face)
        elif role == "flow":
            roles.flow = FlowRole(cfg, frozen.flow.to(holder.device))
        elif role == "perceptual":
            assert frozen.perceptual is not None
            roles.perceptual = PerceptualRole(cfg, frozen.perceptual.to(holder.device, dtype))
        else:
            scale = int(role.removeprefix("temporal_"))
            made = engine(role, holder, optimizers.temporal)
            roles.temporal[scale] = TemporalDiscriminatorRole(cfg, made, scale)
    return roles


def build_generator_role(
    cfg: Config, grid: Grid, module: nn.Module, make_optimizer: MakeOptimizer, train_all_scales: bool
) -> GeneratorRole:
    """The generator with an optimiser over all scales, or over the finest and the style encoder only."""
    assert isinstance(module, Generator)
    module = module.to(grid.device, DTYPES[cfg.optim.precision])
    module.set_compute_options(compute_options_from(cfg.optim, on_cpu=grid.device.type == "cpu"))
    module.requires_grad_(False)
    for part in module.trained_parts(train_all_scales):
        part.requires_grad_(True)
    return GeneratorRole(cfg, build_engine(module, make_optimizer, cfg.optim, grid))


def build_engine(module: nn.Module, make_optimizer: MakeOptimizer, optim: OptimConfig, grid: Grid) -> RoleEngine:
    """The engine that the configuration asks for; trains the parameters of `module` that require a gradient."""
    if optim.backend == "plain":
        return PlainEngine(module, make_optimizer, grid)
    from vid2vid_dist.engine.run.zero import ZeroEngine  # DeepSpeed takes seconds to import: only where it is used

    return ZeroEngine(module, make_optimizer, optim, grid)
