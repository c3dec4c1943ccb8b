"""The roles of a training step. Each knows how to run its own part on one rank, and nothing of the others.

A discriminator runs its fake pass once and takes two gradients from it: of the generator's loss to the frames,
and of its own loss to its weights. Losses are means over a lane; `share` is the lane's part of the step (its
clips over all clips of the step), so that sums over lanes and ranks give the mean over clips.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vid2vid_dist import losses
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.lane import Chunk, TemporalRow
from vid2vid_dist.engine.optimizer import RoleEngine
from vid2vid_dist.models.flow import FlowReference
from vid2vid_dist.models.generator import GeneratedChunk, Generator


@dataclass
class Judgement:
    """What a role has to say about a lane's chunk.

    `losses` by logged name (spec: losses 8), detached; gradients of the generator's loss with respect to the
    generated tensors, of the same shape as those, None = no part in it.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    fake: Tensor | None = None
    raw: Tensor | None = None
    flow: Tensor | None = None
    weight: Tensor | None = None

    def __iadd__(self, other: Judgement) -> Judgement:
        self.losses |= other.losses
        for name in ("fake", "raw", "flow", "weight"):
            mine, new = getattr(self, name), getattr(other, name)
            setattr(self, name, new if mine is None else mine if new is None else mine + new)
        return self

    def weighted(self, weight: float) -> Judgement:
        """Losses and gradients times a weight."""
        scaled = {name: weight * loss for name, loss in self.losses.items()}
        gradients = (self.fake, self.raw, self.flow, self.weight)
        return Judgement(scaled, *(None if gradient is None else weight * gradient for gradient in gradients))


@dataclass
class GeneratorRole:
    """Makes the frames of a chunk and carries the judges' gradients back into its weights."""

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
            n_frames_bp=n_frames_bp,
            raw_only=no_first_img and chunk.is_first,
            detach_coarse=detach_coarse,
        )

    def backward(self, generated: GeneratedChunk, verdict: Judgement, share: float) -> None:
        # One backward through all frames of the chunk: with n_frames_bp > 1 their graphs hang together.
        pairs = [
            (generated.fake, verdict.fake),
            (generated.raw, verdict.raw),
            (generated.flow, verdict.flow),
            (generated.weight, verdict.weight),
        ]
        surrogate = torch.stack([(x * g).sum() for x, g in pairs if x is not None and g is not None]).sum()
        self.engine.backward(surrogate * share)


@dataclass
class ImagePass:
    """Frames that the image discriminator judges together, between its real side, its fake side and its own backward.

    The face's entries stay empty where no face is seen.
    """

    labels: Tensor  # (B x F, Ca, H, W)
    on_real: losses.LayerOutputs
    box: losses.Box | None = None
    on_real_face: losses.LayerOutputs | None = None
    own_loss: Tensor | None = None
    own_face_loss: Tensor | None = None


@dataclass
class ImageDiscriminatorRole:
    """Judges single frames, the blended and the purely synthesised ones, given their labels; faces too."""

    cfg: Config
    engine: RoleEngine
    face_engine: RoleEngine | None = None

    def judge(self, chunk: Chunk, generated: GeneratedChunk, share: float) -> Judgement:
        n_frames = generated.fake.shape[1]
        per_pass = self.cfg.discriminator.frames_per_pass or n_frames
        parts = []
        for start in range(0, n_frames, per_pass):
            these = slice(start, start + per_pass)
            part = len(range(*these.indices(n_frames))) / n_frames
            parts.append((part, self._judge_pass(chunk, generated, these, share * part)))
        verdict = Judgement(losses={k: sum(p * j.losses[k] for p, j in parts) for k in parts[0][1].losses})  # type: ignore[misc]
        verdict.fake = torch.cat([p * _filled(j.fake) for p, j in parts], dim=1)
        if generated.raw is not generated.fake:
            verdict.raw = torch.cat([p * _filled(j.raw) for p, j in parts], dim=1)
        return verdict

    def _judge_pass(self, chunk: Chunk, generated: GeneratedChunk, these: slice, share: float) -> Judgement:
        judged = self.see_real(chunk.labels.frames(these).dense(), chunk.real[:, these])
        same = generated.raw is generated.fake  # without flow both are one tensor
        verdict = self.see_fake(judged, generated.fake[:, these], None if same else generated.raw[:, these])
        self.backward(judged, share)
        return verdict

    def see_real(self, labels: Tensor, real: Tensor) -> ImagePass:
        """Begin a pass: `labels` (B, F, Ca, H, W) and `real` (B, F, 3, H, W) of its frames."""
        labels, real = labels.flatten(0, 1), real.flatten(0, 1)
        judged = ImagePass(labels, self.engine.module(torch.cat([labels, real], dim=1)))
        if self.face_engine is not None:
            marked_by_pose = self.cfg.discriminator.face_marker == "openpose"
            judged.box = losses.face_box(labels, self.cfg.data.fineSize, marked_by_pose)
            if judged.box is not None:
                judged.on_real_face = self._face_scores(judged, real)
        return judged

    def see_fake(self, judged: ImagePass, fake: Tensor, raw: Tensor | None) -> Judgement:
        """Gradients to the generated frames (B, F, 3, H, W). Without `raw` the frames count twice."""
        cfg = self.cfg
        fake = fake.detach().requires_grad_()
        raw = None if raw is None else raw.detach().requires_grad_()

        def scores(images: Tensor) -> losses.LayerOutputs:
            return self.engine.module(torch.cat([judged.labels, images.flatten(0, 1)], dim=1))

        on_fake = scores(fake)
        on_raw = on_fake if raw is None else scores(raw)
        terms = _two_sided(cfg, judged.on_real, [on_fake, on_raw], ("G_GAN", "G_GAN_Feat", "D_real", "D_fake"))
        # D_real stands twice in the total, once for each kind of fake frame (spec: losses 4).
        terms["D_real"] = 2 * terms["D_real"]
        g_loss = terms["G_GAN"] + terms["G_GAN_Feat"]
        judged.own_loss = 0.5 * (terms["D_fake"] + terms["D_real"])
        if self.face_engine is not None:
            terms |= self._face_terms(judged, fake)
            g_loss = g_loss + terms["G_f_GAN"] + terms["G_f_GAN_Feat"]
        wanted = [fake] if raw is None else [fake, raw]
        of_fake, *of_raw = torch.autograd.grad(g_loss, wanted, retain_graph=True)
        return Judgement(_detached(terms), fake=of_fake, raw=of_raw[0] if of_raw else None)

    def backward(self, judged: ImagePass, share: float) -> None:
        """The discriminators' own losses into their weights; ends the pass."""
        assert judged.own_loss is not None
        self.engine.backward(judged.own_loss * share)
        if self.face_engine is not None and judged.own_face_loss is not None:
            self.face_engine.backward(judged.own_face_loss * share)

    def _face_terms(self, judged: ImagePass, fake: Tensor) -> dict[str, Tensor]:
        names = ("G_f_GAN", "G_f_GAN_Feat", "D_f_real", "D_f_fake")
        if judged.on_real_face is None:
            return {name: judged.labels.new_zeros(()) for name in names}
        on_fake = self._face_scores(judged, fake.flatten(0, 1))
        terms = _two_sided(self.cfg, judged.on_real_face, [on_fake], names)
        for name in names[:2]:
            terms[name] = losses.FACE_WEIGHT * terms[name]
        judged.own_face_loss = 0.5 * (terms["D_f_fake"] + terms["D_f_real"])
        return terms

    def _face_scores(self, judged: ImagePass, images: Tensor) -> losses.LayerOutputs:
        assert self.face_engine is not None
        assert judged.box is not None
        return self.face_engine.module(torch.cat([judged.box.crop(judged.labels), judged.box.crop(images)], dim=1))


@dataclass
class GroupPass:
    """A temporal discriminator's groups of one chunk, between its real side, its fake side and its own backward."""

    flows: Tensor  # (B x groups, n_frames_D - 1, 2, H, W)
    on_real: losses.LayerOutputs
    own_loss: Tensor | None = None


@dataclass
class TemporalDiscriminatorRole:
    """Judges groups of n_frames_D frames with the reference flow between them, at one temporal scale."""

    cfg: Config
    engine: RoleEngine
    scale: int

    def judge(self, row: TemporalRow, generated: GeneratedChunk, flow: FlowRole, share: float) -> Judgement:
        groups = row.plan.scales[self.scale]
        fake = generated.fake.detach().requires_grad_()
        index = torch.tensor(groups.frames, device=fake.device)  # (groups, n_frames_D)
        real_groups = row.real[:, index].flatten(0, 1)
        fake_groups = torch.cat([row.fake_past, fake], dim=1)[:, index].flatten(0, 1)
        pairs = torch.tensor(groups.flow_pairs, device=fake.device)  # (groups, n_frames_D - 1, 2)
        if groups.skips_frames:
            flows = flow.reference(
                row.real[:, pairs[..., 0]].flatten(0, 1), row.real[:, pairs[..., 1]].flatten(0, 1)
            ).flow
        else:
            flows = row.flow[:, pairs[..., 0]].flatten(0, 1)
        judged = self.see_real(real_groups, flows)
        terms, (gradient,) = self.see_fake(judged, fake_groups, [fake])
        self.backward(judged, share)
        return Judgement(terms, fake=gradient)

    def see_real(self, groups: Tensor, flows: Tensor) -> GroupPass:
        """Begin a pass: real `groups` (B x groups, n_frames_D, 3, H, W), reference `flows` between their frames."""
        return GroupPass(flows, self.engine.module(losses.temporal_input(groups, flows)))

    def see_fake(
        self, judged: GroupPass, groups: Tensor, frames: list[Tensor]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Losses, and gradients to the `frames` from which the generated `groups` are put together."""
        on_fake = self.engine.module(losses.temporal_input(groups, judged.flows))
        names = tuple(f"{name}{self.scale}" for name in ("G_T_GAN", "G_T_GAN_Feat", "D_T_real", "D_T_fake"))
        terms = _two_sided(self.cfg, judged.on_real, [on_fake], names)
        gan, features, d_real, d_fake = (terms[name] for name in names)
        judged.own_loss = 0.5 * (d_fake + d_real)
        return _detached(terms), list(torch.autograd.grad(gan + features, frames, retain_graph=True))

    def backward(self, judged: GroupPass, share: float) -> None:
        """The discriminator's own loss into its weights; ends the pass."""
        assert judged.own_loss is not None
        self.engine.backward(judged.own_loss * share)


@dataclass
class PerceptualRole:
    """Compares frames with the real ones by the features of a frozen VGG19."""

    cfg: Config
    features: nn.Module  # `models.perceptual.VGG19Features`, or one that gives such a list

    def judge(self, chunk: Chunk, generated: GeneratedChunk) -> Judgement:
        same = generated.raw is generated.fake
        return self.see_fake(self.see_real(chunk.real), generated.fake, None if same else generated.raw)

    def see_real(self, real: Tensor) -> list[Tensor]:
        """Features of `real` (B, F, 3, H, W), which `see_fake` compares with."""
        with torch.no_grad():
            return self.features(real.flatten(0, 1))

    def see_fake(self, of_real: list[Tensor], fake: Tensor, raw: Tensor | None) -> Judgement:
        """Gradients to the generated frames (B, F, 3, H, W). Without `raw` the frames count twice."""
        wanted = [x.detach().requires_grad_() for x in (fake, raw) if x is not None]
        distances = [losses.perceptual_distance(self.features(x.flatten(0, 1)), of_real) for x in wanted]
        loss = self.cfg.loss.lambda_feat * (distances[0] + distances[-1])
        of_fake, *of_raw = torch.autograd.grad(loss, wanted)
        return Judgement({"G_VGG": loss.detach()}, fake=of_fake, raw=of_raw[0] if of_raw else None)


@dataclass
class FlowRole:
    """Gives the reference flow and judges predicted flow and warped frames by it."""

    cfg: Config
    network: nn.Module  # `models.flow.ReferenceFlow`, or one that gives a `FlowReference`

    def reference(self, current: Tensor, previous: Tensor) -> FlowReference:
        """Reference flow of (..., 3, H, W) frames and its confidence, leading dimensions kept."""
        return self.network(current, previous)

    def judge(
        self, chunk: Chunk, generated: GeneratedChunk, previous_fake: Tensor, reference: FlowReference
    ) -> Judgement:
        pair = RealPair(chunk.real, chunk.real_prev, reference)
        return judge_flow(self.cfg, pair, generated.fake, previous_fake, generated.flow, generated.weight)


@dataclass
class RealPair:
    """Real frames (..., 3, H, W), those before them, and the reference flow between the two."""

    real: Tensor
    previous: Tensor
    reference: FlowReference


def judge_flow(
    cfg: Config, pair: RealPair, fake: Tensor, previous_fake: Tensor, flow: Tensor | None, weight: Tensor | None
) -> Judgement:
    """The flow and warp losses of generated frames (..., 3, H, W); needs no network."""

    def fold(x: Tensor) -> Tensor:
        return x.flatten(0, -4)

    conf, flow_ref = fold(pair.reference.confidence), fold(pair.reference.flow)
    fake = fake.detach().requires_grad_()
    warped = losses.temporal_warp_loss(fold(fake), fold(previous_fake), flow_ref, conf, cfg.loss.lambda_T)
    (of_fake,) = torch.autograd.grad(warped, fake)
    verdict = Judgement({"G_Warp": warped.detach()}, fake=of_fake)
    if flow is None or weight is None:
        return verdict
    flow, weight = flow.detach().requires_grad_(), weight.detach().requires_grad_()
    terms = {
        "F_Flow": losses.flow_loss(fold(flow), flow_ref, conf, cfg.loss.lambda_F, cfg.generator.n_scales_spatial),
        "F_Warp": losses.flow_warp_loss(fold(flow), fold(pair.previous), fold(pair.real), conf, cfg.loss.lambda_T),
    }
    (of_flow,) = torch.autograd.grad(terms["F_Flow"] + terms["F_Warp"], flow)
    verdict += Judgement(_detached(terms), flow=of_flow)
    if cfg.generator.no_first_img:
        loss = losses.weight_loss(fold(weight), conf)
        (of_weight,) = torch.autograd.grad(loss, weight)
        verdict += Judgement({"W": loss.detach()}, weight=of_weight)
    return verdict


def _two_sided(
    cfg: Config, on_real: losses.LayerOutputs, on_fakes: list[losses.LayerOutputs], names: tuple[str, ...]
) -> dict[str, Tensor]:
    """Generator's GAN and feature-matching terms and the discriminator's two, the fake ones summed over the passes."""
    mode, disc, weight = cfg.loss.gan_mode, cfg.discriminator, cfg.loss.lambda_feat
    terms = (
        sum(losses.gan_loss(f, True, mode, for_generator=True) for f in on_fakes),
        sum(losses.feature_matching(f, on_real, disc.num_D, disc.n_layers_D, weight) for f in on_fakes),
        losses.gan_loss(on_real, True, mode),
        sum(losses.gan_loss(f, False, mode) for f in on_fakes),
    )
    return dict(zip(names, terms, strict=True))  # type: ignore[arg-type]


def _filled(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient


def _detached(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: term.detach() for name, term in terms.items()}
