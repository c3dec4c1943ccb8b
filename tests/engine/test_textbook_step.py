"""The engine's step is the textbook's, whatever is trained: losses, gradients and weights of three steps in float64."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.engine.placed_clips import StandInFeatures
from tests.engine.spread_clips import clip
from tests.engine.textbook_craft import in_use
from tests.engine.textbook_step import TextbookStep
from tools.lanes import advance, clip_of
from tools.parity.trace import StandInFlow
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.role import RateGroup
from vid2vid_dist.engine.plan.schedule import in_order
from vid2vid_dist.engine.plan.tasks import LaneChunk, StepShape
from vid2vid_dist.engine.plan.tensors import What
from vid2vid_dist.engine.roles.build import build_modules, build_roles, role_specs
from vid2vid_dist.engine.roles.kinds import shown_kinds
from vid2vid_dist.engine.run.executor import Executor
from vid2vid_dist.engine.run.grid import solo_grid
from vid2vid_dist.engine.run.tensor_store import LanePart, Shown
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.models.spade import Spade

N_STEPS, CHUNK, HEIGHT, WIDTH = 3, 3, 24, 40
SMALL = (
    "data.label_nc=8", "generator.ngf=4", "generator.n_blocks=2", "generator.n_blocks_local=1",
    "generator.n_downsample_G=1", "discriminator.ndf=4", "loss.no_vgg=true", "optim.backend=plain",
    "optim.precision=fp64",
)
TWO_SCALES = ("generator.n_scales_spatial=2", "generator.fg=true", "generator.fg_labels=[3,5]",
              "data.use_instance=true")
FACE = ("data.label_nc=0", "data.input_nc=3", "data.fineSize=64", "discriminator.add_face_disc=true",
        "discriminator.num_D=3")
SINGLE_IMAGE = ("generator.netG=global", "generator.no_flow=true", "generator.no_first_img=true",
                "generator.norm=instance")
FINEST_ONLY = "schedule.niter_fix_global=1"
PERCEPTUAL = "loss.no_vgg=false"
STYLES = "generator.style_nc=2"


class Setting(NamedTuple):
    """What is trained, and how: `n_clips` in lanes of `batch_size`, which are normalised together."""

    name: str
    overrides: tuple[str, ...] = ()
    n_frames_bp: int = 1
    n_clips: int = 2
    batch_size: int = 1

    @property
    def cfg(self) -> Config:
        return load_config(None, [*SMALL, *self.overrides])


SETTINGS = [
    Setting("default"),
    Setting("two_scales", TWO_SCALES),
    Setting("finest_only", (*TWO_SCALES, FINEST_ONLY), n_frames_bp=2),
    Setting("reach_2", TWO_SCALES, n_frames_bp=2),
    Setting("reach_3", n_frames_bp=3, n_clips=3),
    Setting("hinge", ("loss.gan_mode=hinge",)),
    Setting("spectral", ("generator.spectral_norm=true", "discriminator.spectral_norm=true", *TWO_SCALES)),
    Setting("augmented", ("discriminator.augment=diff", "discriminator.frames_per_pass=2"), n_clips=4, batch_size=2),
    Setting("augmented_faces", ("discriminator.augment=diff", "loss.r1_gamma=1", "loss.r1_every=1", *FACE)),
    Setting("adaptive", ("discriminator.augment=adaptive", "loss.r1_gamma=1", "loss.r1_every=1")),
    Setting("r1", ("loss.r1_gamma=5", "loss.r1_every=2", "discriminator.frames_per_pass=2",
                   "discriminator.n_scales_temporal=1")),
    Setting("spade", ("generator.norm=spade", *TWO_SCALES), n_frames_bp=2),
    Setting("spade_of_styles", ("generator.norm=spade", STYLES)),
    Setting("logistic", ("loss.gan_mode=logistic", "optim.clip_norm=0.5")),
    Setting("scores_only", ("loss.no_ganFeat=true", "discriminator.n_scales_temporal=0")),
    Setting("perceptual", (PERCEPTUAL,)),
    Setting("no_flow", ("generator.no_flow=true", PERCEPTUAL, *TWO_SCALES)),
    Setting("no_first_img", ("generator.no_first_img=true", *TWO_SCALES)),
    Setting("face", FACE),
    Setting("passes", ("discriminator.frames_per_pass=2", "discriminator.face_marker=openpose", *FACE)),
    Setting("sparse", ("discriminator.sparse_D=true",)),
    Setting("three_temporal", ("discriminator.n_frames_D=2", "discriminator.n_scales_temporal=3")),
    Setting("group_passes", ("discriminator.n_frames_D=2", "discriminator.n_scales_temporal=3",
                             "discriminator.groups_per_pass=1", "loss.r1_gamma=1", "loss.r1_every=2")),
    Setting("sparse_passes", ("discriminator.n_frames_D=2", "discriminator.sparse_D=true",
                              "discriminator.groups_per_pass=1")),
    Setting("batch", n_clips=4, batch_size=2),
    Setting("styles", (STYLES, "generator.n_scales_spatial=2"), n_frames_bp=2),
    Setting("styles_finest_only", (STYLES, "generator.n_scales_spatial=2", FINEST_ONLY)),
    Setting("styles_of_instances", (STYLES, "data.use_instance=true", *SINGLE_IMAGE)),
]


@dataclass
class Step:
    """What a step has done: mean losses by logged name; gradients, and weights after it, by ROLE.PARAMETER; frames
    of the last lane (B, T, 3, H, W)."""

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]
    fake: Tensor


def lanes_of(setting: Setting) -> dict[int, list[Frames]]:
    """Whole clips, by the number of their lane."""
    n_frames, size = setting.cfg.generator.n_frames_G - 1 + N_STEPS * CHUNK, setting.batch_size
    clips = [cropped(clip(n, n_frames)) for n in range(setting.n_clips)]
    if not setting.cfg.data.label_nc:
        clips = [posed(frames, n) for n, frames in enumerate(clips)]
    return {lane: clips[lane * size:(lane + 1) * size] for lane in range(setting.n_clips // size)}


def cropped(frames: Frames) -> Frames:
    images, instances = (None if x is None else x[..., :HEIGHT, :WIDTH] for x in (frames.images, frames.instances))
    return replace(frames, labels=frames.labels[..., :HEIGHT, :WIDTH], images=images, instances=instances)


def posed(frames: Frames, number: int) -> Frames:
    """Pictures of poses in place of label maps; heads and necks here and there, in odd clips none before frame 6."""
    assert frames.images is not None
    poses = frames.images.flip(1)
    head, neck = (frames.labels[:, 0] == i for i in (3, 4))
    if number % 2:
        head[:6] = neck[:6] = False
    poses[:, 2] = torch.where(head, 255, 0)
    for channel, colour in enumerate((153, 0, 51)):
        poses[:, channel] = torch.where(neck, colour, poses[:, channel])
    return replace(frames, labels=poses)


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Its eps is large: with the usual one a rounding of 2e-14 in a gradient of nearly zero moves a weight by 1e-10."""
    return torch.optim.Adam(parameters, lr=5e-5, eps=1e-5)


def weights_of(modules: dict[str, nn.Module]) -> dict[str, nn.Parameter]:
    return {f"{role}.{name}": p for role, module in modules.items() for name, p in module.named_parameters()}


def copied(tensors: dict[str, Tensor] | dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def by_textbook(setting: Setting) -> list[Step]:
    cfg, lanes, found = setting.cfg, lanes_of(setting), []
    features = None if cfg.loss.no_vgg else StandInFeatures()
    book = TextbookStep(cfg, in_use(build_modules(role_specs(cfg))), StandInFlow(), features, adam,
                        train_all_scales=not cfg.schedule.niter_fix_global)
    clips = {n: lane if setting.batch_size > 1 else lane[0] for n, lane in lanes.items()}
    for i in range(N_STEPS):
        losses = book.step(clips, i * CHUNK, CHUNK, setting.n_frames_bp)
        fake = book.fake[max(clips)]
        found.append(Step(losses, copied(book.gradients), copied(weights_of(book.modules)),
                          fake if setting.batch_size > 1 else fake[None]))
    return found


def by_engine(setting: Setting) -> list[Step]:
    cfg, lanes, found = setting.cfg, lanes_of(setting), []
    specs, grid, all_scales = role_specs(cfg), solo_grid(), not cfg.schedule.niter_fix_global
    modules, layout = in_use(build_modules(specs)), colocated(specs, 1)
    frozen: dict[str, nn.Module] = {"flow": StandInFlow(), "perceptual": StandInFeatures()}
    roles = build_roles(specs, grid.holders(layout.slots), modules, frozen,
                        dict.fromkeys(RateGroup, adam), all_scales)
    executor = Executor(roles, specs.shapes(), 0, Transport(grid), torch.float64, specs.buckets)
    parts = [LanePart(clip_of(cfg, lane, grid.device), CHUNK, 1 / len(lanes)) for lane in lanes.values()]
    shown = Shown(len(lanes) - 1, tuple(shown_kinds(cfg)))
    for i in range(N_STEPS):
        chunk = LaneChunk(i * CHUNK, CHUNK)
        shape = StepShape((chunk,) * len(lanes), n_frames_bp=setting.n_frames_bp, train_all_scales=all_scales)
        plan = in_order(step_tasks(specs, shape, whole_chunks=True), layout)
        active = specs.active(chunk)
        result = executor.step(plan, shape, parts, active, shown)
        for part in parts:
            advance(cfg, part)
        weights = weights_of(modules)
        of_step = {name: p.grad.clone() for name, p in weights.items()
                   if p.grad is not None and name.partition(".")[0] in active}
        fake = torch.stack([frame[What.IMAGE] for frame in result.shown], dim=1)
        found.append(Step(result.losses, of_step, copied(weights), fake))
    return found


def cancelled_biases(modules: dict[str, nn.Module]) -> Iterator[str]:
    """Those that the norm layer after them takes out again: the true gradient is zero, the computed one is noise."""
    for role, module in modules.items():
        for name, stack in module.named_modules():
            for i, (_, after) in enumerate(pairwise(stack) if isinstance(stack, nn.Sequential) else ()):
                if isinstance(after, nn.BatchNorm2d | nn.InstanceNorm2d | Spade):
                    yield f"{role}.{name}.{i}.bias"


def worst(found: dict[str, Tensor], expected: dict[str, Tensor], floor: float) -> float:
    """Largest distance, relative to the length of what is expected, where that is above the floor."""
    assert found.keys() == expected.keys()
    return max(float((found[name] - x).norm() / x.norm().clamp(min=floor)) for name, x in expected.items())


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_engine_is_the_textbook(setting: Setting) -> None:
    """Gradients of later steps are compared less strictly: they part as the weights do, and far more."""
    specs = role_specs(setting.cfg)
    modules = build_modules(specs)
    cancelled = set(cancelled_biases(modules))
    textbook = by_textbook(setting)
    for number, (expected, found) in enumerate(zip(textbook, by_engine(setting), strict=True)):
        for step in (expected, found):
            for name in cancelled:
                step.gradients.pop(name, None)
                step.weights.pop(name)
        assert worst(found.losses, expected.losses, 1e-3) < 1e-10
        assert worst(found.gradients, expected.gradients, 1e-12) < (1e-8 if number else 1e-10)
        assert max(float((found.weights[name] - x).abs().max()) for name, x in expected.weights.items()) < 1e-10
        torch.testing.assert_close(found.fake, expected.fake, rtol=0, atol=1e-9)
    logged = {name for step in textbook for name in step.losses}
    assert logged == {loss.name for spec in specs.all for loss in spec.losses}
    first, last = textbook[0].weights, textbook[-1].weights
    assert {name.split(".")[0] for name in last if not torch.equal(first[name], last[name])} == set(modules)


def test_the_comparison_can_fail() -> None:
    """A longer reach of the gradient changes no loss of the first step, but the way to go."""
    short, far = by_textbook(Setting("default")), by_textbook(Setting("default", n_frames_bp=2))
    assert worst(far[0].losses, short[0].losses, 1e-3) < 1e-10
    assert worst(far[0].gradients, short[0].gradients, 1e-3) > 1e-4
    assert worst(far[-1].losses, short[-1].losses, 1e-3) > 1e-8
