"""The discriminators' roles: one judges single frames and faces, the others groups of consecutive frames.

A discriminator runs its fake pass once and takes two gradients from it: of the generator's loss to the frames,
and of its own loss to its weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vid2vid_dist import losses
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.roles.roles import CriticResult, FlowRole, detached
from vid2vid_dist.engine.roles.scores import ScoreTally, spread
from vid2vid_dist.engine.run.lane import Chunk, TemporalRow
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.models.generator import GeneratedChunk


@dataclass
class ImagePass:
    """Frames that the image discriminator judges together: what its real, fake and own backward passes share.

    The face's entries stay empty where no face is seen.
    """

    labels: Tensor  # (B x F, Ca, H, W)
    on_real: losses.LayerOutputs
    box: losses.Box | None = None
    on_real_face: losses.LayerOutputs | None = None
    own_loss: Tensor | None = None
    own_face_loss: Tensor | None = None
    spreads: tuple[Tensor, Tensor] | None = None  # of the scores on real and fake frames
    face_spreads: tuple[Tensor, Tensor] | None = None


@dataclass
class ImageDiscriminatorRole:
    """Judges single frames given their labels, the blended and the purely synthesised ones, and the faces in them."""

    cfg: Config
    engine: RoleEngine
    face_engine: RoleEngine | None = None
    tally: ScoreTally = field(default_factory=ScoreTally)
    face_tally: ScoreTally = field(default_factory=ScoreTally)

    def evaluate(self, chunk: Chunk, generated: GeneratedChunk, share: float) -> CriticResult:
        n_frames = generated.fake.shape[1]
        per_pass = self.cfg.discriminator.frames_per_pass or n_frames
        parts = []
        for start in range(0, n_frames, per_pass):
            these = slice(start, start + per_pass)
            part = len(range(*these.indices(n_frames))) / n_frames
            parts.append((part, self._evaluate_pass(chunk, generated, these, share * part)))
        result = CriticResult(losses={k: sum(p * r.losses[k] for p, r in parts) for k in parts[0][1].losses})  # type: ignore[misc]
        result.fake = torch.cat([p * _filled(r.fake) for p, r in parts], dim=1)
        if generated.raw is not generated.fake:
            result.raw = torch.cat([p * _filled(r.raw) for p, r in parts], dim=1)
        return result

    def _evaluate_pass(self, chunk: Chunk, generated: GeneratedChunk, these: slice, share: float) -> CriticResult:
        image_pass = self.see_real(chunk.labels.frames(these).dense(), chunk.real[:, these])
        same = generated.raw is generated.fake  # without flow both are one tensor
        result = self.see_fake(image_pass, generated.fake[:, these], None if same else generated.raw[:, these])
        self.backward(image_pass, share)
        return result

    def see_real(self, labels: Tensor, real: Tensor) -> ImagePass:
        """Begin a pass: `labels` (B, F, Ca, H, W) and `real` (B, F, 3, H, W) of its frames."""
        labels, real = labels.flatten(0, 1), real.flatten(0, 1)
        image_pass = ImagePass(labels, self.engine.module(torch.cat([labels, real], dim=1)))
        if self.face_engine is not None:
            marked_by_pose = self.cfg.discriminator.face_marker == "openpose"
            image_pass.box = losses.face_box(labels, self.cfg.data.fineSize, marked_by_pose)
            if image_pass.box is not None:
                image_pass.on_real_face = self._face_scores(image_pass, real)
        return image_pass

    def see_fake(self, image_pass: ImagePass, fake: Tensor, raw: Tensor | None) -> CriticResult:
        """Gradients to the generated frames (B, F, 3, H, W). Without `raw` the frames count twice."""
        cfg = self.cfg
        fake = fake.detach().requires_grad_()
        raw = None if raw is None else raw.detach().requires_grad_()

        def scores(images: Tensor) -> losses.LayerOutputs:
            return self.engine.module(torch.cat([image_pass.labels, images.flatten(0, 1)], dim=1))

        on_fake = scores(fake)
        on_raw = on_fake if raw is None else scores(raw)
        terms = _two_sided(cfg, image_pass.on_real, [on_fake, on_raw], ("G_GAN", "G_GAN_Feat", "D_real", "D_fake"))
        image_pass.spreads = _spreads(cfg, image_pass.on_real, [on_fake, on_raw])
        # D_real stands twice in the total, once for each kind of fake frame (spec: losses 4).
        terms["D_real"] = 2 * terms["D_real"]
        g_loss = terms["G_GAN"] + terms["G_GAN_Feat"]
        image_pass.own_loss = 0.5 * (terms["D_fake"] + terms["D_real"])
        if self.face_engine is not None:
            terms |= self._face_terms(image_pass, fake)
            g_loss = g_loss + terms["G_f_GAN"] + terms["G_f_GAN_Feat"]
        wanted = [fake] if raw is None else [fake, raw]
        of_fake, *of_raw = torch.autograd.grad(g_loss, wanted, retain_graph=True)
        return CriticResult(detached(terms), fake=of_fake, raw=of_raw[0] if of_raw else None)

    def backward(self, image_pass: ImagePass, share: float) -> None:
        """The discriminators' own losses into their weights; ends the pass."""
        assert image_pass.own_loss is not None
        assert image_pass.spreads is not None
        self.engine.backward(image_pass.own_loss * share)
        self.tally.add(*image_pass.spreads, share)
        if self.face_engine is not None and image_pass.own_face_loss is not None:
            assert image_pass.face_spreads is not None
            self.face_engine.backward(image_pass.own_face_loss * share)
            self.face_tally.add(*image_pass.face_spreads, share)

    def _face_terms(self, image_pass: ImagePass, fake: Tensor) -> dict[str, Tensor]:
        names = ("G_f_GAN", "G_f_GAN_Feat", "D_f_real", "D_f_fake")
        if image_pass.on_real_face is None:
            return {name: image_pass.labels.new_zeros(()) for name in names}
        on_fake = self._face_scores(image_pass, fake.flatten(0, 1))
        terms = _two_sided(self.cfg, image_pass.on_real_face, [on_fake], names)
        image_pass.face_spreads = _spreads(self.cfg, image_pass.on_real_face, [on_fake])
        for name in names[:2]:
            terms[name] = losses.FACE_WEIGHT * terms[name]
        image_pass.own_face_loss = 0.5 * (terms["D_f_fake"] + terms["D_f_real"])
        return terms

    def _face_scores(self, image_pass: ImagePass, images: Tensor) -> losses.LayerOutputs:
        assert self.face_engine is not None
        box = image_pass.box
        assert box is not None
        return self.face_engine.module(torch.cat([box.crop(image_pass.labels), box.crop(images)], dim=1))


@dataclass
class GroupPass:
    """A temporal discriminator's groups of one chunk: what its real, fake and own backward passes share."""

    flows: Tensor  # (B x groups, n_frames_D - 1, 2, H, W)
    on_real: losses.LayerOutputs
    own_loss: Tensor | None = None
    spreads: tuple[Tensor, Tensor] | None = None  # of the scores on real and fake groups


@dataclass
class TemporalDiscriminatorRole:
    """Judges groups of n_frames_D frames with the reference flow between them, at one temporal scale."""

    cfg: Config
    engine: RoleEngine
    scale: int
    tally: ScoreTally = field(default_factory=ScoreTally)

    def evaluate(self, row: TemporalRow, generated: GeneratedChunk, flow: FlowRole, share: float) -> CriticResult:
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
        group_pass = self.see_real(real_groups, flows)
        terms, (gradient,) = self.see_fake(group_pass, fake_groups, [fake])
        self.backward(group_pass, share)
        return CriticResult(terms, fake=gradient)

    def see_real(self, groups: Tensor, flows: Tensor) -> GroupPass:
        """Begin a pass: real `groups` (B x groups, n_frames_D, 3, H, W), reference `flows` between their frames."""
        return GroupPass(flows, self.engine.module(losses.temporal_input(groups, flows)))

    def see_fake(
        self, group_pass: GroupPass, groups: Tensor, frames: list[Tensor]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Losses, and gradients to the `frames` from which the generated `groups` are put together."""
        on_fake = self.engine.module(losses.temporal_input(groups, group_pass.flows))
        names = tuple(f"{name}{self.scale}" for name in ("G_T_GAN", "G_T_GAN_Feat", "D_T_real", "D_T_fake"))
        terms = _two_sided(self.cfg, group_pass.on_real, [on_fake], names)
        gan, features, d_real, d_fake = (terms[name] for name in names)
        group_pass.own_loss = 0.5 * (d_fake + d_real)
        group_pass.spreads = _spreads(self.cfg, group_pass.on_real, [on_fake])
        return detached(terms), list(torch.autograd.grad(gan + features, frames, retain_graph=True))

    def backward(self, group_pass: GroupPass, share: float) -> None:
        """The discriminator's own loss into its weights; ends the pass."""
        assert group_pass.own_loss is not None
        assert group_pass.spreads is not None
        self.engine.backward(group_pass.own_loss * share)
        self.tally.add(*group_pass.spreads, share)


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


def _spreads(cfg: Config, on_real: losses.LayerOutputs, on_fakes: list[losses.LayerOutputs]) -> tuple[Tensor, Tensor]:
    """Of the scores on real frames, and on all kinds of fake ones."""
    mode = cfg.loss.gan_mode
    return spread([on_real], mode), spread(on_fakes, mode)


def _filled(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient
