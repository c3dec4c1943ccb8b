"""What each task of a step costs: arithmetic, memory traffic, saved activations, bytes on the wire.

Counted on meta tensors from the networks themselves, so no weights, no GPU and no time are needed. Seconds
follow from a machine model, or from task times measured in an earlier run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vid2vid_dist import losses
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.counting import Work, measure, size_of
from vid2vid_dist.errors import UserError
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.composite import Features, Foreground
from vid2vid_dist.models.compute_options import compute_options_from
from vid2vid_dist.models.discriminator import face_discriminator, image_discriminator, temporal_discriminator
from vid2vid_dist.models.flow import RaftFlow, raft_network
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import EncodedLabels
from vid2vid_dist.models.perceptual import VGG19Features
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.untrusted import parse_json, read_text

DIS_SECONDS_PER_PIXEL = 1.3e-7  # OpenCV's dense inverse search on one CPU core, measured
UPDATE_BYTES_PER_PARAMETER = 28  # Adam reads gradient, master weights, two moments; writes them and the weights


@dataclass(frozen=True)
class Machine:
    """What a rank does in a second. The defaults model an H100; `flops` is what its convolutions reach."""

    flops: dict[str, float] = field(default_factory=lambda: {"bf16": 0.4 * 989e12, "fp32": 0.4 * 494.5e12,
                                                             "fp64": 0.4 * 67e12})
    memory_bandwidth: float = 2.6e12  # bytes/s
    link_in_node: float = 450e9  # bytes/s and direction, between two ranks of a node
    link_between_nodes: float = 50e9
    link_to_host: float = 25e9
    host_bandwidth: float = 20e9  # bytes/s of a rank's share of the host's memory
    ranks_per_node: int = 8
    is_cpu: bool = False

    def all_reduce(self, n_bytes: float, n_ranks: int) -> float:
        """Seconds of a hierarchical ring: within each node, then between nodes on the part of each rank."""
        def ring(share: float, n: int, bandwidth: float) -> float:
            return 2 * (n - 1) / n * share / bandwidth

        in_node = min(n_ranks, self.ranks_per_node)
        n_nodes = -(-n_ranks // in_node)
        return ring(n_bytes, in_node, self.link_in_node) + ring(n_bytes / in_node, n_nodes, self.link_between_nodes)


CPU_CORE = Machine(flops={"bf16": 2e10, "fp32": 5e10, "fp64": 2.5e10}, memory_bandwidth=5e9, link_in_node=1e9,
                   link_between_nodes=1e9, is_cpu=True)
"""Roughly, one thread of today's servers: placements on CPU ranks weigh convolutions against flow on the CPU."""


@dataclass(frozen=True)
class Costs:
    """Costs of one clip's tasks by `KIND/SCALE`; the unit is a frame, of temporal tasks a group.

    `tensors`: bytes of what travels between tasks. `frame_bytes`: of one frame's labels, at all scales, and of one
    real picture. `parameters` of the trained roles and of the frozen networks (`perceptual`, `flow`). `measured`:
    seconds by the same keys, in place of the machine model. `offload`: masters and moments lie in the host's memory.
    """

    work: dict[str, Work]
    tensors: dict[str, int]
    parameters: dict[str, int]
    frozen: dict[str, int]
    precision: str
    flow_precision: str = "fp32"
    machine: Machine = field(default_factory=Machine)
    measured: dict[str, float] = field(default_factory=dict)
    offload: bool = False
    frame_bytes: dict[str, int] = field(default_factory=lambda: {"labels": 0, "real": 0})

    def seconds(self, key: str) -> float:
        """Predicted time of one unit on one rank."""
        if key in self.measured:
            return self.measured[key]
        work = self.work[key]
        precision = self.flow_precision if key.startswith(("flow/", "skipped_flow/")) else self.precision
        return work.flops / self.machine.flops[precision] + work.moved / self.machine.memory_bandwidth

    @property
    def element(self) -> int:
        """Bytes of one number of the compute format."""
        return DTYPES[self.precision].itemsize

    def reduce_seconds(self, role: str, n_ranks: int) -> float:
        """Gradients to their owners and new weights back."""
        measured = self.measured.get(f"reduce/{role}")
        return measured if measured is not None else self.machine.all_reduce(
            self.parameters[role] * self.element, n_ranks)

    def update_seconds(self, role: str, n_ranks: int) -> float:
        """The optimiser on one rank's shard."""
        measured = self.measured.get(f"update/{role}")
        if measured is not None:
            return measured
        shard, machine = self.parameters[role] / n_ranks, self.machine
        if not self.offload:
            return shard * UPDATE_BYTES_PER_PARAMETER / machine.memory_bandwidth
        across = 2 * shard * self.element / machine.link_to_host  # gradients there, weights back
        return across + shard * UPDATE_BYTES_PER_PARAMETER / machine.host_bandwidth


def load_measured(costs: Costs, path: Path | None) -> Costs:
    """Costs with the seconds of a JSON file {"KIND/SCALE": seconds} in place of the model's; None = no file.

    Raises `UserError` for a file that is not such a table or names tasks that there are not.
    """
    if path is None:
        return costs
    try:
        table = parse_json(read_text(path, 2**20))
        measured = {str(key): float(value) for key, value in table.items()}
        if not all(0 <= seconds < math.inf for seconds in measured.values()):
            raise ValueError("seconds below 0")
    except (OSError, ValueError, ArithmeticError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is no table of task times {{\"KIND/SCALE\": seconds}}: {error}") from None
    known = {*costs.work, *(f"{kind}/{role}" for kind in ("reduce", "update") for role in costs.parameters)}
    unknown = sorted(set(measured) - known)
    if unknown:
        raise UserError(f"{path}: no task of this configuration is called {', '.join(unknown)}; "
                        f"there are {', '.join(sorted(known))}")
    return replace(costs, measured=costs.measured | measured)


def count_costs(cfg: Config, height: int, width: int, machine: Machine | None = None) -> Costs:
    """Costs of every kind of task for frames of `height` x `width` at the finest scale, one lane's clips.

    Raises `UserError` for sizes that the networks cannot halve often enough.
    """
    work: dict[str, Work] = {}
    tensors: dict[str, int] = {}
    machine = machine or Machine()
    dtype, clips = DTYPES[cfg.optim.precision], cfg.parallel.batch_size
    with torch.device("meta"):
        generator = Generator(cfg).to(dtype)
        generator.set_compute_options(compute_options_from(cfg.optim, on_cpu=machine.is_cpu))
        generator.check_size(width, height)
        discriminators: dict[str, nn.Module] = {"image": image_discriminator(cfg)}
        if cfg.discriminator.add_face_disc:
            discriminators["face"] = face_discriminator(cfg)
        for s in range(cfg.discriminator.n_scales_temporal):
            discriminators[f"temporal_{s}"] = temporal_discriminator(cfg)
        for discriminator in discriminators.values():
            discriminator.to(dtype)
        _count_generator(cfg, generator, height, width, dtype, work, tensors)
        _count_discriminators(cfg, discriminators, height, width, dtype, work)
        frozen = _count_frozen(cfg, height, width, dtype, work)
        work["flow_loss/0"] = _flow_loss(cfg, height, width, dtype)
    plane = height * width * dtype.itemsize
    tensors |= {"raw": 3 * plane, "grad_raw": 3 * plane, "reference": 3 * plane, "skipped_flow": 2 * plane}
    on_cpu = clips * DIS_SECONDS_PER_PIXEL * height * width
    return Costs(
        work={key: one * clips for key, one in work.items()},
        tensors={name: n_bytes * clips for name, n_bytes in tensors.items()},
        parameters={"generator": _size(generator), **{name: _size(module) for name, module in discriminators.items()}},
        frozen=frozen,
        precision=cfg.optim.precision,
        machine=machine,
        measured={key: on_cpu for key in work if "flow/" in key} if cfg.flow.network == "dis" else {},
        offload=cfg.optim.offload,
        frame_bytes={"labels": clips * _label_bytes(cfg, height, width, dtype), "real": clips * 3 * plane},
    )


def _count_generator(cfg: Config, generator: Generator, height: int, width: int, dtype: torch.dtype,
                     work: dict[str, Work], tensors: dict[str, int]) -> None:
    gen, coarse, fg_features = cfg.generator, None, None
    for scale in range(gen.n_scales_spatial):
        halvings = gen.n_scales_spatial - 1 - scale
        size = (height >> halvings, width >> halvings)

        def plane(channels: int, size: tuple[int, int] = size) -> Tensor:
            return torch.empty(1, channels, *size, dtype=dtype)

        network = generator.network(scale)
        labels = _labels(cfg, size, dtype, finest=halvings == 0)
        previous = plane(3 * (gen.n_frames_G - 1)).requires_grad_(cfg.schedule.max_frames_backpropagate > 1)
        work[f"label/{scale}"], label_features = measure(
            generator, _on_labels, network.label_branch, generator, scale, labels, (height, width))
        foreground = mask = None
        if gen.fg:
            mask = plane(1)
            work[f"foreground/{scale}"], made = measure(
                generator, _on_labels, network.foreground_branch, generator, scale, labels, (height, width),
                fg_features)
            work[f"foreground_backward/{scale}"], _ = measure(generator, _backward, [made.image, made.features])
            foreground = Foreground(made.image.detach(), made.features.detach())
            fg_features = made.features.detach().requires_grad_()
            tensors[f"foreground/{scale}"] = size_of(made.image)
            tensors[f"fg_features/{scale}"] = tensors[f"grad_fg_features/{scale}"] = size_of(made.features)
        work[f"synthesis/{scale}"], out = measure(
            network, network.synthesize, label_features, previous, coarse, foreground, mask)
        outputs = [x for x in (out.image, out.raw, out.flow, out.weight) if x is not None]
        work[f"backward/{scale}"], _ = measure(generator, _backward, outputs)
        img, flow = out.features.img, out.features.flow
        coarse = Features(img.detach().requires_grad_(), None if flow is None else flow.detach().requires_grad_(), None)
        tensors[f"image/{scale}"] = tensors[f"grad_image/{scale}"] = size_of(out.image)
        tensors[f"features/{scale}"] = size_of(img) + (0 if flow is None else size_of(flow))
        tensors[f"grad_features/{scale}"] = tensors[f"features/{scale}"]


def _on_labels(branch: Callable[..., Any], generator: Generator, scale: int, labels: EncodedLabels,
               size: tuple[int, int], *coarse: Any) -> Any:
    """A branch as its task runs it: with styles it encodes the real frame (height, width) first. Pooling, which needs
    regions to look at, is left out: it multiplies nothing."""
    if generator.netE is not None:
        features = generator.style_features(torch.empty(1, 3, *size, dtype=labels.planes.dtype))
        labels = replace(labels, style=generator.style_at(features, scale))
    return branch(labels, *coarse)


def _labels(cfg: Config, size: tuple[int, int], dtype: torch.dtype, finest: bool) -> EncodedLabels:
    """A window of label frames: class ids at the finest scale, averaged planes below."""
    n_frames, classes = cfg.generator.n_frames_G, cfg.data.label_nc if finest else 0
    planes = torch.empty(1, n_frames, cfg.label_channels - classes, *size, dtype=dtype)
    if not classes:
        return EncodedLabels(planes)
    return EncodedLabels(planes, torch.empty(1, n_frames, 1, *size, dtype=torch.uint8), classes)


def _label_bytes(cfg: Config, height: int, width: int, dtype: torch.dtype) -> int:
    """One frame's labels at every scale, and the regions that have one style."""
    n_bytes = 4 * height * width if cfg.generator.style_nc and cfg.data.use_instance else 0
    for halvings in range(cfg.generator.n_scales_spatial):
        window = _labels(cfg, (height >> halvings, width >> halvings), dtype, finest=halvings == 0)
        n_bytes += (size_of(window.planes) + (size_of(window.ids) if window.ids is not None else 0)) // window.n_frames
    return n_bytes


def _count_discriminators(cfg: Config, discriminators: dict[str, nn.Module], height: int, width: int,
                          dtype: torch.dtype, work: dict[str, Work]) -> None:
    """D runs once on real and once on each kind of fake; two gradients are taken from the fake passes."""
    n_fakes = {"image": 1 if cfg.generator.no_flow else 2}
    face = losses.face_side(cfg.data.fineSize)
    for name, discriminator in discriminators.items():
        size = (face, face) if name == "face" else (height, width)
        channels = next(discriminator.parameters()).shape[1]  # of the kernel that reads the input
        inputs = torch.empty(1, channels, *size, dtype=dtype, requires_grad=True)
        forward, outputs = measure(discriminator, discriminator, inputs)
        scores = [scale[-1] for scale in outputs]
        to_frames, _ = measure(discriminator, _gradients, scores, [inputs])
        to_weights, _ = measure(discriminator, _gradients, scores, list(discriminator.parameters()))
        fakes = n_fakes.get(name, 1)
        kind, _, scale = name.partition("_")
        of_fakes = replace(fakes * (forward + to_frames), transient=fakes * to_frames.transient)
        of_weights = replace((1 + fakes) * to_weights, transient=to_weights.transient)
        # The labels stay until the generated frames are judged.
        of_real = replace(forward, saved=forward.saved + (size_of(inputs[:, 3:]) if name == "image" else 0))
        of_task = {"real": of_real, "fake": of_fakes, "backward": of_weights}
        for part, amount in of_task.items():
            key = f"{'image' if kind == 'face' else kind}_{part}/{scale or 0}"
            work[key] = work.get(key, Work()) + amount  # the face discriminator judges along with the image's


def _count_frozen(cfg: Config, height: int, width: int, dtype: torch.dtype, work: dict[str, Work]) -> dict[str, int]:
    frozen = {}
    if not cfg.loss.no_vgg:
        vgg = VGG19Features(models.vgg.make_layers(models.vgg.cfgs["E"], batch_norm=False)).to(dtype)
        frame = torch.empty(1, 3, height, width, dtype=dtype)
        with torch.no_grad():
            real, of_real = measure(vgg, vgg, frame)
        forward, features = measure(vgg, vgg, frame.clone().requires_grad_())
        backward, _ = measure(vgg, _backward, features)
        work["perceptual_real/0"] = replace(real, saved=float(sum(map(size_of, of_real))))
        work["perceptual_fake/0"] = (1 if cfg.generator.no_flow else 2) * (forward + backward)
        frozen["perceptual"] = _size(vgg)
    flow = Work()
    if cfg.flow.network.startswith("raft"):
        raft = RaftFlow(raft_network(cfg.flow.network)).eval().requires_grad_(False)
        size = raft.size_for(height, width)
        images = torch.empty(1, 3, *size), torch.empty(1, 3, *size)
        with torch.no_grad():
            flow, _ = measure(raft, raft, *images)
        frozen["flow"] = _size(raft)
    work["flow/0"] = flow
    work |= {f"skipped_flow/{s}": flow for s in range(cfg.discriminator.n_scales_temporal)}
    return frozen


def _flow_loss(cfg: Config, height: int, width: int, dtype: torch.dtype) -> Work:
    def plane(channels: int) -> Tensor:
        return torch.empty(1, channels, height, width, dtype=dtype)

    fake, flow = plane(3).requires_grad_(), plane(2).requires_grad_()

    def terms() -> None:
        _backward([losses.temporal_warp_loss(fake, plane(3), plane(2), plane(1), 1.0)])
        if not cfg.generator.no_flow:
            _backward([losses.flow_loss(flow, plane(2), plane(1), 1.0, 1)
                       + losses.flow_warp_loss(flow, plane(3), plane(3), plane(1), 1.0)])

    return replace(measure(nn.Module(), terms)[0], saved=0.0)


def _backward(outputs: list[Tensor]) -> None:
    torch.autograd.backward(outputs, [torch.empty_like(x) for x in outputs])


def _gradients(outputs: list[Tensor], inputs: list[Tensor]) -> None:
    torch.autograd.grad(outputs, inputs, [torch.empty_like(x) for x in outputs], retain_graph=True)


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
