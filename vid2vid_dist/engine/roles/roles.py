"""The roles of a training step. Each knows how to run its own part on one rank, and nothing of the others.

Here are the generator and the critics that are not trained; those that are, the discriminators, are in
`discriminator_roles`. Losses are means over a lane; `share` is the lane's part of the step (its clips over all clips of
the step), so that sums over lanes and ranks give the mean over clips.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vid2vid_dist import losses
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.run.lane import Chunk
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.models.flow import FlowReference
from vid2vid_dist.models.generator import GeneratedChunk, Generator


@dataclass
class CriticResult:
    """Losses and gradients of one critic of a lane's chunk, or of several.

    `losses` by logged name (spec: losses 8), detached; gradients of the generator's loss with respect to the
    generated tensors, of the same shape as those, None = no part in it. `squared_norms` by critic, of those added.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    fake: Tensor | None = None
    raw: Tensor | None = None
    flow: Tensor | None = None
    weight: Tensor | None = None
    squared_norms: dict[str, Tensor] = field(default_factory=dict)

    def add(self, critic: str, other: CriticResult) -> None:
        """Add a critic's losses and gradients, and note the gradients' squared norm."""
        self.squared_norms[critic] = other.squared_norm()
        self += other

    def squared_norm(self) -> Tensor:
        """The squared norm of the gradients to the colours of the frames: over frames, clips and ranks it adds up."""
        gradients = [x for x in (self.fake, self.raw) if x is not None]
        return torch.stack([torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, torch.float32))
                            for x in gradients]).square().sum()

    def __iadd__(self, other: CriticResult) -> CriticResult:
        self.losses |= other.losses
        for name in ("fake", "raw", "flow", "weight"):
            mine, new = getattr(self, name), getattr(other, name)
            setattr(self, name, new if mine is None else mine if new is None else mine + new)
        return self

    def weighted(self, weight: float) -> CriticResult:
        """Losses and gradients times a weight."""
        scaled = {name: weight * loss for name, loss in self.losses.items()}
        fake, raw, flow, mask = (None if gradient is None else weight * gradient
                                 for gradient in (self.fake, self.raw, self.flow, self.weight))
        return CriticResult(scaled, fake, raw, flow, mask)


@dataclass
class GeneratorRole:
    """Makes the frames of a chunk and carries the critics' gradients back into its weights."""

    cfg: Config
    engine: RoleEngine

    @property
    def module(self) -> Generator:
        assert isinstance(self.engine.module, Generator)
        return self.engine.module

    def generate(self, chunk: Chunk, history: list[Tensor], n_frames_bp: int, detach_coarse: bool) -> GeneratedChunk:
        no_first_img = self.cfg.generator.no_first_img
        if not history:
            given = chunk.real_stack[:, : chunk.n_past]
            history = self.module.start_history(torch.zeros_like(given) if no_first_img else given)
        return self.module.generate(
            chunk.label_stack,
            history,
            style=self.module.style_of(chunk.real, chunk.labels),
            n_frames_bp=n_frames_bp,
            raw_only=no_first_img and chunk.is_first,
            detach_coarse=detach_coarse,
        )

    def backward(self, generated: GeneratedChunk, result: CriticResult, share: float) -> None:
        # One backward through all frames of the chunk: with n_frames_bp > 1 their graphs hang together.
        pairs = [
            (generated.fake, result.fake),
            (generated.raw, result.raw),
            (generated.flow, result.flow),
            (generated.weight, result.weight),
        ]
        surrogate = torch.stack([(x * g).sum() for x, g in pairs if x is not None and g is not None]).sum()
        self.engine.backward(surrogate * share)


@dataclass
class PerceptualRole:
    """Compares frames with the real ones by the features of a frozen VGG19."""

    cfg: Config
    features: nn.Module  # `models.perceptual.VGG19Features`, or one that gives such a list

    def evaluate(self, chunk: Chunk, generated: GeneratedChunk) -> CriticResult:
        same = generated.raw is generated.fake
        return self.see_fake(self.see_real(chunk.real), generated.fake, None if same else generated.raw)

    def see_real(self, real: Tensor) -> list[Tensor]:
        """Features of `real` (B, F, 3, H, W), which `see_fake` compares with."""
        with torch.no_grad():
            return self.features(real.flatten(0, 1))

    def see_fake(self, of_real: list[Tensor], fake: Tensor, raw: Tensor | None) -> CriticResult:
        """Gradients to the generated frames (B, F, 3, H, W). Without `raw` the frames count twice."""
        wanted = [x.detach().requires_grad_() for x in (fake, raw) if x is not None]
        distances = [losses.perceptual_distance(self.features(x.flatten(0, 1)), of_real) for x in wanted]
        loss = self.cfg.loss.lambda_feat * (distances[0] + distances[-1])
        of_fake, *of_raw = torch.autograd.grad(loss, wanted)
        return CriticResult({"G_VGG": loss.detach()}, fake=of_fake, raw=of_raw[0] if of_raw else None)


@dataclass
class FlowRole:
    """Gives the reference flow and compares predicted flow and warped frames with it."""

    cfg: Config
    network: nn.Module  # `models.flow.ReferenceFlow`, or one that gives a `FlowReference`

    def reference(self, current: Tensor, previous: Tensor) -> FlowReference:
        """Reference flow of (..., 3, H, W) frames and its confidence, leading dimensions kept."""
        return self.network(current, previous)

    def evaluate(
        self, chunk: Chunk, generated: GeneratedChunk, previous_fake: Tensor, reference: FlowReference
    ) -> CriticResult:
        pair = RealPair(chunk.real, chunk.real_prev, reference)
        return evaluate_flow(self.cfg, pair, generated.fake, previous_fake, generated.flow, generated.weight)


@dataclass
class RealPair:
    """Real frames (..., 3, H, W), those before them, and the reference flow between the two."""

    real: Tensor
    previous: Tensor
    reference: FlowReference


def evaluate_flow(
    cfg: Config, pair: RealPair, fake: Tensor, previous_fake: Tensor, flow: Tensor | None, weight: Tensor | None
) -> CriticResult:
    """The flow and warp losses of generated frames (..., 3, H, W); needs no network."""

    def fold(x: Tensor) -> Tensor:
        return x.flatten(0, -4)

    conf, flow_ref = fold(pair.reference.confidence), fold(pair.reference.flow)
    fake = fake.detach().requires_grad_()
    warped = losses.temporal_warp_loss(fold(fake), fold(previous_fake), flow_ref, conf, cfg.loss.lambda_T)
    (of_fake,) = torch.autograd.grad(warped, fake)
    result = CriticResult({"G_Warp": warped.detach()}, fake=of_fake)
    if flow is None or weight is None:
        return result
    flow, weight = flow.detach().requires_grad_(), weight.detach().requires_grad_()
    terms = {
        "F_Flow": losses.flow_loss(fold(flow), flow_ref, conf, cfg.loss.lambda_F, cfg.generator.n_scales_spatial),
        "F_Warp": losses.flow_warp_loss(fold(flow), fold(pair.previous), fold(pair.real), conf, cfg.loss.lambda_T),
    }
    (of_flow,) = torch.autograd.grad(terms["F_Flow"] + terms["F_Warp"], flow)
    result += CriticResult(detached(terms), flow=of_flow)
    if cfg.generator.no_first_img:
        loss = losses.weight_loss(fold(weight), conf)
        (of_weight,) = torch.autograd.grad(loss, weight)
        result += CriticResult({"W": loss.detach()}, weight=of_weight)
    return result


def detached(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: term.detach() for name, term in terms.items()}
