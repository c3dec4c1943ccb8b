"""One training step of vid2vid as the paper writes it: what a step means, however it is computed.

The generator makes the next frames of every clip, one after the other, from labels and from the frames before. All of
them stay in one autograd graph. Then they are judged: by discriminators of single frames, of faces and of groups of
frames, by the features of a frozen VGG19, and by the motion of the real video. A discriminator runs three times: on
real frames; on generated ones held constant, for its own loss; and on generated ones, for the generator's loss. Losses
are means over clips. One backward pass of the generator's loss gives the generator's gradients, one of each
discriminator's own loss those of that one, all by the weights from before the step; then all optimisers step: `update`.

Nothing is computed ahead, kept or shared to save time. The engine is compared with this step, in float64, and shares no
code with it but the networks (spec: losses, training_schedule 4, networks 4). Frames are numbered from the first one
that is generated, so those that are given have negative numbers.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.engine.textbook_craft import iterate, judge, pull, r1
from tests.engine.textbook_frames import face_box, temporal_groups
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.sampling import step_rng
from vid2vid_dist.models.augment import draw
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import EncodedLabels
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.network_input import encode_inputs, encode_pictures

CPU = torch.device("cpu")
VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)  # of relu1_1 ... relu5_1
ByFrame = dict[int, Tensor]


@dataclass
class Chunk:
    """The frames of B clips that are normalised together, by number; `new` are the numbers of those made in the step.

    Images are (B, 3, H, W) in [-1, 1]; `fake` has those of earlier chunks, too, which are constant. `labels`
    (B, Ca, H, W) are one-hot classes, or an image, and instance edges. Without flow, `flow` (B, 2, H, W) in pixels and
    `weight` (B, 1, H, W) stay empty.
    """

    new: range
    labels: ByFrame
    real: ByFrame
    fake: ByFrame
    raw: ByFrame = field(default_factory=dict)
    flow: ByFrame = field(default_factory=dict)
    weight: ByFrame = field(default_factory=dict)


class TextbookStep:
    """Trains networks step by step. Keeps what the next chunk of a clip needs: the frames made so far, at all scales.

    After a step, `fake` holds the frames that it made, (T, 3, H, W) by clip number, (B, T, 3, H, W) for a list of
    clips, and `gradients` those that the optimisers went by, by "ROLE.PARAMETER".
    """

    def __init__(self, cfg: Config, modules: Mapping[str, nn.Module], flow: nn.Module, features: nn.Module | None,
                 make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
                 train_all_scales: bool = True) -> None:
        """`modules`: the trained networks, "generator", "image", "face", "temporal_0" …, which are changed in place.

        `flow` gives the reference flow (current, previous) and its confidence; `features` five maps of images, or there
        is no perceptual loss. Without `train_all_scales` only the finest scale and the style encoder learn.
        """
        self.cfg, self.dtype = cfg, DTYPES[cfg.optim.precision]
        self.modules = {role: module.to(self.dtype) for role, module in modules.items()}
        self.flow, self.features = flow, None if features is None else features.to(self.dtype)
        generator = modules["generator"]
        assert isinstance(generator, Generator)
        self.generator, self.train_all_scales = generator, train_all_scales
        self.n_past = cfg.generator.n_frames_G - 1
        self.finest = cfg.generator.n_scales_spatial - 1
        self.trained = {role: dict(module.named_parameters()) for role, module in modules.items()}
        if not train_all_scales:
            self.trained["generator"] = {name: p for name, p in generator.named_parameters()
                                         if name.startswith((f"netG{self.finest}.", "netE."))}
        self.optimizers = {role: make_optimizer(list(named.values())) for role, named in self.trained.items()}
        self.made: dict[int, list[ByFrame]] = {}  # by clip number and scale, coarsest first; detached between steps
        self.fake: dict[int, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}
        self.number = 0  # of the step

    def step(self, clips: Mapping[int, Frames | list[Frames]], n_seen: int, n_frames: int, n_frames_bp: int,
             clips_in_step: int | None = None) -> dict[str, Tensor]:
        """One step on frames `n_seen` … `n_seen + n_frames - 1` of every clip; returns mean losses by logged name.

        `clips` by number, whole ones, with the given frames at their start; those of a list are normalised together.
        `n_frames_bp`: at every so many frames of the chunk, the frames before are detached. `clips_in_step`: how many
        clips the mean runs over, if not those of `clips`.
        """
        batches = {number: clip if isinstance(clip, list) else [clip] for number, clip in clips.items()}
        n_clips = clips_in_step or sum(map(len, batches.values()))
        mean: dict[str, Tensor] = {}
        new = range(n_seen, n_seen + n_frames)
        for role, module in self.modules.items():
            scale = role.removeprefix("temporal_")
            if scale == role or temporal_groups(self.cfg.discriminator, int(scale), new):
                iterate(module)
        for number, batch in batches.items():
            chunk = self.generate(number, batch, new, n_frames_bp)
            self.drawn = draw(step_rng(self.cfg.run.seed, self.number, number), len(batch))
            add(mean, self.losses(chunk), len(batch) / n_clips)
            self.made[number] = [{t: image.detach() for t, image in scale.items()} for scale in self.made[number]]
            fake = torch.stack([chunk.fake[t].detach() for t in chunk.new], dim=1)
            self.fake[number] = fake if isinstance(clips[number], list) else fake[0]
        self.update(mean)
        self.number += 1
        return {name: loss.detach() for name, loss in mean.items() if not name.startswith("pull")}

    def update(self, mean: Mapping[str, Tensor]) -> None:
        """Every role minimises its loss. A discriminator that had nothing to judge is left as it is."""
        minimised = {"generator": total(x for name, x in mean.items() if name.startswith(("G_", "F_", "W")))}
        for role in self.modules:
            if role != "generator" and logged("D_real", role) in mean:
                minimised[role] = 0.5 * (mean[logged("D_real", role)] + mean[logged("D_fake", role)])
                more = f"{logged('D_real', role)}_R1", f"pull of {role}"
                minimised[role] = minimised[role] + sum(mean.get(name, 0) for name in more)
        self.gradients = {}
        for role, loss in minimised.items():
            named = self.trained[role]
            gradients = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
            for (name, parameter), gradient in zip(named.items(), gradients, strict=True):
                parameter.grad = self.gradients[f"{role}.{name}"] = gradient
        for role in minimised:
            if self.cfg.optim.clip_norm:
                nn.utils.clip_grad_norm_(self.trained[role].values(), self.cfg.optim.clip_norm)
            self.optimizers[role].step()

    def generate(self, number: int, clips: list[Frames], new: range, n_frames_bp: int) -> Chunk:
        """Make the new frames, each at all scales, from its labels and from the n_frames_G - 1 frames before it."""
        gen = self.cfg.generator
        encoded = encode_inputs(self.cfg, clips, CPU, self.dtype)
        pictures, given = encode_pictures(clips, CPU, self.dtype), range(-self.n_past, 0)
        real, labels = (dict(enumerate(x.unbind(1), given.start)) for x in (pictures, encoded.dense()))
        if new.start == 0:  # a clip begins with given frames, or from nothing
            self.made[number] = [{t: self.at_scale(real[t], scale) * (not gen.no_first_img) for t in given}
                                 for scale in range(self.finest + 1)]
        made = self.made[number]
        chunk = Chunk(new, labels, real, fake=made[self.finest])
        for t in new:
            style = None if encoded.regions is None else self.look(real[t], encoded.regions[:, self.n_past + t])
            coarse = None
            for scale in range(self.finest + 1):
                previous = torch.cat([made[scale][i] for i in range(t - self.n_past, t)], dim=1)
                if (t - new.start) % n_frames_bp == 0:
                    previous = previous.detach()
                seen = [self.at_scale(labels[i], scale) for i in range(t - self.n_past, t + 1)]
                mask = seen[-1][:, gen.fg_labels].sum(dim=1, keepdim=True).clamp(0, 1) if gen.fg else None
                window = EncodedLabels(torch.stack(seen, dim=1),
                                       style=None if style is None else self.at_scale(style, scale))
                raw_only = gen.no_first_img and new.start == 0
                with torch.set_grad_enabled(self.train_all_scales or scale == self.finest):
                    out = self.generator.network(scale)(window, previous, mask, coarse, raw_only)
                made[scale][t], coarse = out.image, out.features
            chunk.raw[t] = out.raw
            if out.flow is not None and out.weight is not None:
                chunk.flow[t], chunk.weight[t] = out.flow, out.weight
        return chunk

    def at_scale(self, x: Tensor, scale: int) -> Tensor:
        """Images, labels or styles (B, C, H, W), halved once for every finer scale."""
        for _ in range(self.finest - scale):
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return x

    def look(self, real: Tensor, regions: Tensor) -> Tensor:
        """What the style encoder reads off real frames, averaged over each region: (B, style_nc, H, W)."""
        assert self.generator.netE is not None
        looks = []
        for features, ids in zip(self.generator.netE.model(real), regions, strict=True):
            masks = [(ids == region).to(features.dtype) for region in ids.unique()]
            looks.append(total(mask * (features * mask).sum(dim=(1, 2), keepdim=True) / mask.sum() for mask in masks))
        return torch.stack(looks)

    def losses(self, chunk: Chunk) -> dict[str, Tensor]:
        """All terms of a chunk, by logged name."""
        fake, real = stacked(chunk.fake, chunk.new), stacked(chunk.real, chunk.new)
        terms = {"L1": (fake - real).abs().mean()}  # only watched
        add(terms, self.image_terms(chunk))
        add(terms, self.temporal_terms(chunk))
        add(terms, self.motion_terms(chunk))
        if self.features is not None:
            expected = self.features(real)
            distances = [weight * (found - wanted.detach()).abs().mean()
                         for images in (fake, stacked(chunk.raw, chunk.new))
                         for weight, found, wanted in zip(VGG_WEIGHTS, self.features(images), expected, strict=True)]
            terms["G_VGG"] = self.cfg.loss.lambda_feat * total(distances)
        return terms

    def image_terms(self, chunk: Chunk) -> dict[str, Tensor]:
        """Single frames given their labels, final and raw ones, in passes of frames that are normalised together."""
        per_pass = self.cfg.discriminator.frames_per_pass or len(chunk.new)
        terms: dict[str, Tensor] = {}
        for start in range(0, len(chunk.new), per_pass):
            frames = chunk.new[start:start + per_pass]
            labels, real, fake, raw = (stacked(x, frames) for x in (chunk.labels, chunk.real, chunk.fake, chunk.raw))
            pairs = [torch.cat([labels, images], dim=1) for images in (real, fake, raw)]
            part = len(frames) / len(chunk.new)
            for pair in pairs[1:]:
                add(terms, self.adversarial_terms("image", pairs[0], pair), part)
            add(terms, self.penalty("image", pairs[0]), part)
            if self.cfg.discriminator.add_face_disc:
                add(terms, self.face_terms(labels, *pairs[:2]), part)
        return terms

    def face_terms(self, labels: Tensor, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The image discriminator's terms once more, on a crop around the faces of all frames of a pass."""
        marked_by_pose = self.cfg.discriminator.face_marker == "openpose"
        box = face_box(labels, self.cfg.data.fineSize // 32 * 8, marked_by_pose)
        if box is None:  # a loss all the same, of no gradient: momentum moves the face discriminator
            nothing = torch.zeros((), requires_grad=True)
            return dict.fromkeys(("G_f_GAN", "G_f_GAN_Feat", "D_f_real", "D_f_fake"), nothing)
        rows, columns = box
        terms = self.adversarial_terms("face", real[..., rows, columns], fake[..., rows, columns])
        terms |= self.penalty("face", real[..., rows, columns])
        return {name: 2 * term if name.startswith("G_") else term for name, term in terms.items()}

    def temporal_terms(self, chunk: Chunk) -> dict[str, Tensor]:
        """Groups of n_frames_D frames with the reference flow between them, at every temporal scale that has any."""
        disc = self.cfg.discriminator
        terms: dict[str, Tensor] = {}
        for scale in range(disc.n_scales_temporal):
            groups = temporal_groups(disc, scale, chunk.new)
            # Sparse groups have the flow of neighbouring frames, even where they skip frames.
            back = 1 if disc.sparse_D else disc.n_frames_D**scale
            per_pass = disc.groups_per_pass or len(groups) or 1
            for start in range(0, len(groups), per_pass):
                together = groups[start:start + per_pass]
                real, fake = [], []
                for group in together:
                    flows = [self.flow(chunk.real[t], chunk.real[t - back]).flow / 20 for t in group[1:]]
                    real.append(torch.cat([*(chunk.real[t] for t in group), *flows], dim=1))
                    fake.append(torch.cat([*(chunk.fake[t] for t in group), *flows], dim=1))
                part = len(together) / len(groups)
                add(terms, self.adversarial_terms(f"temporal_{scale}", torch.cat(real), torch.cat(fake)), part)
                add(terms, self.penalty(f"temporal_{scale}", torch.cat(real)), part)
        return terms

    def motion_terms(self, chunk: Chunk) -> dict[str, Tensor]:
        """Generated motion against the reference flow, where that is trusted."""
        loss, new = self.cfg.loss, chunk.new
        fake, real = stacked(chunk.fake, new), stacked(chunk.real, new)
        fake_before = torch.cat([self.frame_before(chunk, t) for t in new]).detach()
        before = torch.cat([chunk.real[t - 1] for t in new])
        reference = self.flow(real, before)

        def distance(a: Tensor, b: Tensor | float) -> Tensor:
            return ((a - b).abs() * reference.confidence).mean()

        terms = {"G_Warp": loss.lambda_T * distance(fake, warped(fake_before, reference.flow))}
        if chunk.flow:
            flow = stacked(chunk.flow, new)
            terms["F_Flow"] = loss.lambda_F / 2**self.finest * distance(flow, reference.flow)
            terms["F_Warp"] = loss.lambda_T * distance(warped(before, flow), real)
        if chunk.flow and self.cfg.generator.no_first_img:
            terms["W"] = distance(stacked(chunk.weight, new), 0.0)  # 0 = trust the warped pixel
        return terms

    def frame_before(self, chunk: Chunk, t: int) -> Tensor:
        """The frame that a generated one is compared with for flicker: generated, or real at the start of a clip."""
        return chunk.fake[t - 1] if t else chunk.real[-1]

    def adversarial_terms(self, role: str, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The game of a discriminator and the generator: three passes, four terms."""
        mode = self.cfg.loss.gan_mode
        on_real, on_constant, on_fake = (
            judge(self.cfg, role, self.modules[role], x, self.drawn) for x in (real, fake.detach(), fake))
        distances = [(found - wanted.detach()).abs().mean()
                     for of_fake, of_real in zip(on_fake, on_real, strict=True)
                     for found, wanted in zip(of_fake[:-1], of_real[:-1], strict=True)]  # all layers before the score
        disc = self.cfg.discriminator  # its num_D divides, although the face discriminator has fewer scales
        unit = self.cfg.loss.lambda_feat * 4 / (disc.n_layers_D + 1) / disc.num_D
        terms = {
            "D_real": total(should_be(1, mode, score) for *_, score in on_real),
            "D_fake": total(should_be(0, mode, score) for *_, score in on_constant),
            "G_GAN": total(-score.mean() if mode == "hinge" else should_be(1, mode, score) for *_, score in on_fake),
            "G_GAN_Feat": unit * total(distances),
        }
        return {logged(name, role): term for name, term in terms.items()}

    def penalty(self, role: str, real: Tensor) -> dict[str, Tensor]:
        """R1, in the steps that have it; what moves the strength of augmentation."""
        cfg, module, terms = self.cfg, self.modules[role], {}
        if cfg.loss.r1_gamma and (self.number - 1) % cfg.loss.r1_every == 0:
            terms[f"{logged('D_real', role)}_R1"] = r1(cfg, role, module, real, self.drawn)
        if cfg.discriminator.augment == "adaptive":
            terms[f"pull of {role}"] = pull(cfg, module, judge(cfg, role, module, real, self.drawn))
        return terms


def logged(term: str, role: str) -> str:
    """The name under which a discriminator's term is logged: D_real, of faces D_f_real, of temporal_1 D_T_real1."""
    player, kind = term.split("_", 1)
    if role == "face":
        return f"{player}_f_{kind}"
    return term if role == "image" else f"{player}_T_{kind}{role.removeprefix('temporal_')}"


def should_be(target: int, mode: str, score: Tensor) -> Tensor:
    """What patch scores cost a discriminator: 1 for real frames, 0 for generated ones."""
    if mode == "hinge":
        return F.relu(1 - score if target else 1 + score).mean()
    if mode == "logistic":
        return -F.logsigmoid(score if target else -score).mean()
    return ((score - target) ** 2).mean()


def warped(image: Tensor, flow: Tensor) -> Tensor:
    """Every pixel from where its flow (N, 2, H, W), x first, points in the image; beyond that, from its border."""
    height, width = image.shape[-2:]
    x = torch.linspace(-1, 1, width, dtype=flow.dtype) + flow[:, 0] / ((width - 1) / 2)
    y = torch.linspace(-1, 1, height, dtype=flow.dtype)[:, None] + flow[:, 1] / ((height - 1) / 2)
    grid = torch.stack([x, y], dim=-1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def stacked(x: ByFrame, frames: Iterable[int]) -> Tensor:
    """Frames (B, C, H, W) of all clips in one batch (frames x B, C, H, W)."""
    return torch.cat([x[t] for t in frames])


def total(terms: Iterable[Tensor]) -> Tensor:
    return sum(terms, torch.zeros(()))


def add(totals: dict[str, Tensor], terms: Mapping[str, Tensor], weight: float = 1.0) -> None:
    """Add terms to those of the same name."""
    for name, term in terms.items():
        totals[name] = totals.get(name, torch.zeros(())) + weight * term
