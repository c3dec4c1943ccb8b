"""From a configuration to its roles: what planning knows of them, their networks, and engines around those.

`role_specs` is the one list of all roles.
"""

from collections.abc import Mapping

import torch
from torch import nn

from vid2vid_dist.config.schema import Config, OptimConfig
from vid2vid_dist.engine.plan.role import RateGroup, RoleSpec, RoleSpecs
from vid2vid_dist.engine.roles.face import FaceRole
from vid2vid_dist.engine.roles.flow import FlowRole, WarpRole
from vid2vid_dist.engine.roles.frames import GeneratorRole
from vid2vid_dist.engine.roles.image import ImageRole
from vid2vid_dist.engine.roles.perceptual import PerceptualRole
from vid2vid_dist.engine.roles.temporal import TemporalRole
from vid2vid_dist.engine.run.executor import Role
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.optimizer import MakeOptimizer, RoleEngine, plain_shard, trained_parameters
from vid2vid_dist.models.compiling import compile_network
from vid2vid_dist.models.compute_options import compute_options_from
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.precision import DTYPES

MakeOptimizers = Mapping[RateGroup, MakeOptimizer]


def role_specs(cfg: Config) -> RoleSpecs:
    """All roles of a configuration. Their trained networks are drawn in this order."""
    disc = cfg.discriminator
    return RoleSpecs(cfg, (
        FlowRole(cfg),
        GeneratorRole(cfg),
        WarpRole(cfg),
        ImageRole(cfg),
        *([FaceRole(cfg)] if disc.add_face_disc else []),
        *(TemporalRole(cfg, scale) for scale in range(disc.n_scales_temporal)),
        *([] if cfg.loss.no_vgg else [PerceptualRole(cfg)]),
    ))


def build_modules(specs: RoleSpecs) -> dict[str, nn.Module]:
    """The trained networks by role name, on the CPU in float32. The same seed gives the same weights anywhere."""
    torch.manual_seed(specs.cfg.run.seed)
    return {spec.name: network for spec in specs.all
            if spec.rate is not None and (network := spec.network()) is not None}


def build_frozen(specs: RoleSpecs) -> dict[str, nn.Module]:
    """The networks that are not trained. Raises `UserError` when a weights file is missing or not what it should be."""
    return {spec.name: network for spec in specs.all if spec.rate is None and (network := spec.network()) is not None}


def build_roles(specs: RoleSpecs, holders: Mapping[str, Grid], modules: Mapping[str, nn.Module],
                frozen: Mapping[str, nn.Module], make_optimizers: MakeOptimizers,
                train_all_scales: bool = True) -> dict[str, Role]:
    """The roles that this rank holds, each with an engine over all ranks that hold it (`Grid.holders`).

    Networks of other roles in `modules` are left alone. Every rank must call it at the same time.
    """
    if specs.cfg.optim.compile == "tasks":
        for network in frozen.values():
            compile_network(network)
    roles: dict[str, Role] = {}
    for name, holder in holders.items():  # the same order on all ranks: making an engine is collective
        spec = specs[name]
        if spec.rate is None:
            roles[name] = spec.at_work(frozen[name].to(holder.device) if name in frozen else None)
        else:
            roles[name] = build_trained_role(spec, holder, modules[name], make_optimizers[spec.rate], train_all_scales)
    return roles | {spec.name: spec.at_work(None) for spec in specs.all if spec.place in holders}


def build_trained_role(spec: RoleSpec, grid: Grid, module: nn.Module, make_optimizer: MakeOptimizer,
                       train_all_scales: bool) -> Role:
    """A role with its engine; the generator's is over all scales, or over the finest and the style encoder only."""
    optim = spec.cfg.optim
    module = module.to(grid.device, DTYPES[optim.precision])
    if isinstance(module, Generator):
        module.set_compute_options(compute_options_from(optim, on_cpu=grid.device.type == "cpu"))
        module.requires_grad_(False)
        for part in module.trained_parts(train_all_scales):
            part.requires_grad_(True)
    if optim.compile == "tasks":
        compile_network(module)
    role: Role = spec.at_work(module, build_engine(module, make_optimizer, optim, grid, trained_buckets(spec, module)))
    return role


def trained_buckets(spec: RoleSpec, module: nn.Module) -> list[list[nn.Parameter]]:
    """Its trained parameters as they are laid out. Kernels of GPUs want them at multiples of 16 bytes: in a bucket
    those come last that would shift others."""
    return [sorted((p for p in bucket if p.requires_grad), key=lambda p: p.numel() % 8 > 0)
            for bucket in spec.weights(module)]


def build_engine(module: nn.Module, make_optimizer: MakeOptimizer, optim: OptimConfig, grid: Grid,
                 buckets: list[list[nn.Parameter]] | None = None) -> RoleEngine:
    """The engine that the configuration asks for; trains the parameters of `module` that require a gradient. `buckets`:
    these, in which they are reduced, in one unless told otherwise."""
    buckets = buckets or [trained_parameters(module)]
    if optim.backend == "plain":
        return RoleEngine(module, plain_shard(module, make_optimizer, grid, buckets), grid, optim.clip_norm)
    from vid2vid_dist.engine.run.zero import zero_shard  # DeepSpeed takes seconds to import: only where it is used

    return RoleEngine(module, zero_shard(module, make_optimizer, optim, grid, buckets), grid, optim.clip_norm)
