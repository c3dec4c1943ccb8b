"""What discriminators share: real passes, fake passes that give two gradients, and their own backward passes.

A discriminator runs its fake pass once and takes two gradients from it: of the generator's loss to the frames,
and of its own loss to its weights.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from vid2vid_dist import losses
from vid2vid_dist.config.schema import Config, LossConfig
from vid2vid_dist.data.sampling import step_rng
from vid2vid_dist.engine.plan.counting import Work, backward, gradients, measure, n_parameters
from vid2vid_dist.engine.plan.graph import LaneTasks
from vid2vid_dist.engine.plan.role import Counted, Loss, Minimised, Resolution, RoleSpec
from vid2vid_dist.engine.plan.tasks import Kind, Site, Task
from vid2vid_dist.engine.plan.tensors import Part, TensorKind, image
from vid2vid_dist.engine.run.optimizer import RoleEngine
from vid2vid_dist.engine.run.tensor_store import TaskTensors, TensorStore, scaled
from vid2vid_dist.models.augment import Augmentation, augmented, draw, strength_loss
from vid2vid_dist.scores import MIDDLE, ScoreTally, spread


@dataclass(frozen=True)
class Terms:
    """Names of a discriminator's losses: the generator's adversarial and feature-matching terms, its own two, and R1
    where there is one."""

    gan: str
    features: str
    real: str
    fake: str

    @property
    def r1(self) -> str:
        return f"{self.real}_R1"

    def losses(self, loss: LossConfig) -> tuple[Loss, ...]:
        own = (self.real, self.fake, *([self.r1] if loss.r1_gamma else []))
        return (Loss(self.gan), Loss(self.features), *(Loss(name, Minimised.BY_ITSELF) for name in own))


@dataclass
class Pass:
    """Frames or groups that a discriminator judges together: what its real, fake and own backward tasks share.

    `kept`: what the role needs of the real side for the fake one.
    """

    on_real: losses.LayerOutputs
    kept: Any = None
    penalty: Tensor | None = None
    own_losses: list[Tensor] = field(default_factory=list)  # of each graph
    spreads: tuple[Tensor, Tensor] | None = None  # of the scores on real and fake frames


class Discriminator(RoleSpec):
    """Judges real and generated frames. Each says what it is shown of a pass.

    `terms`: names of its losses; `weight`: of the generator's. `n_kinds` of generated frames count; where fewer are
    judged, for all of them. `colours`: which channels of what it is shown are pictures, of three channels each.
    `kept_inputs`: those of real frames that stay until the generated ones are judged.
    """

    engine: RoleEngine
    tally: ScoreTally
    terms: Terms
    weight = 1.0
    n_kinds = 1
    colours = slice(-3, None)
    kept_inputs = slice(0)

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.losses = self.terms.losses(cfg.loss)
        self._is_penalised = False
        self._augmentations: list[Augmentation] = []

    def at_work(self, module: nn.Module | None, engine: Any = None) -> Any:
        found = super().at_work(module, engine)
        found.tally = ScoreTally()
        return found

    def judged(self) -> list[TensorKind]:
        """What of a generated frame it judges, one after the other."""
        return [image(self.finest)]

    def add_pass(self, lane: LaneTasks, site: Site, frames: tuple[int, ...], units: int,
                 reads_real: Sequence[Part] = (), earlier: Sequence[Part] = (), fraction: float = 0.0) -> None:
        """The three tasks on these frames of a chunk. `reads_real`: what the real side needs of other tasks; `earlier`:
        frames that are judged too, but get no gradient; `fraction`: see `LaneTasks.add`."""
        judged = [Part(kind, t) for kind in self.judged() for t in frames]
        lane.add(Kind.REAL, site, frames, units=units, reads=reads_real, fraction=fraction)
        lane.add(Kind.FAKE, site, frames, units=units, reads=[*judged, *earlier],
                 makes=[part.gradient for part in judged], fraction=fraction)
        lane.add(Kind.CRITIC_BACKWARD, site, frames, units=units, fraction=fraction)

    def count(self, resolution: Resolution) -> Counted:
        """It runs once on real and once on each kind of fake; two gradients are taken from the fake passes. R1 counts
        by the time of a mean step and the memory of one that has it."""
        network, loss, n_fakes = self.network(), self.cfg.loss, len(self.judged())
        assert network is not None
        first = next(x for x in network.to(resolution.dtype).modules() if isinstance(x, nn.Conv2d))
        inputs = first.weight.new_empty(1, first.in_channels, resolution.height, resolution.width, requires_grad=True)
        forward, outputs = measure(network, network, inputs)
        scores = [scale[-1] for scale in outputs]
        to_frames, _ = measure(network, gradients, scores, [inputs])
        to_weights, _ = measure(network, gradients, scores, list(network.parameters()))
        real, own = forward, replace((1 + n_fakes) * to_weights, transient=to_weights.transient)
        if loss.r1_gamma:
            share = 1 / loss.r1_every
            steep, penalty = measure(network, losses.r1_penalty, outputs, inputs, slice(None), 1.0)
            of_penalty, _ = measure(network, backward, [penalty])
            real = replace(forward + share * steep, saved=forward.saved + steep.saved, transient=steep.transient)
            own = replace(own + share * of_penalty, transient=max(own.transient, of_penalty.transient))
        kept = inputs[:, self.kept_inputs].nbytes
        work: Mapping[tuple[Kind, int], Work] = {
            (Kind.REAL, 0): replace(real, saved=real.saved + kept),
            (Kind.FAKE, 0): replace(n_fakes * (forward + to_frames), transient=n_fakes * to_frames.transient),
            (Kind.CRITIC_BACKWARD, 0): own}
        return Counted(work, n_trained=[n_parameters(network)])

    @abstractmethod
    def real(self, task: Task, step: TensorStore) -> Pass | None:
        """Begin a pass with what `see_real` gives; None where there is nothing to judge."""

    @abstractmethod
    def fake(self, task: Task, step: TensorStore, judged: Pass, frames: list[Tensor]) -> list[Tensor]:
        """What it is shown of generated frames (B, F, 3, H, W), of each kind that it judges. `judged`: what `real`
        gave."""

    def run(self, task: Task, step: TensorStore) -> TaskTensors:
        self._begin(task, step)
        passes: dict[tuple[int, ...], Any] = step.sites.setdefault(task.site, {})  # by frames
        if task.kind == Kind.FAKE:
            return self._fake(task, step, passes[task.frames])
        if task.kind == Kind.REAL:
            passes[task.frames] = self.real(task, step)
        elif (judged := passes.pop(task.frames)) is not None:
            self.backward(judged, step.weight(task))
        return {}

    def _fake(self, task: Task, step: TensorStore, judged: Pass | None) -> TaskTensors:
        kinds = self.judged()
        frames = [step.stack(task, kind).requires_grad_() for kind in kinds]
        if judged is not None:
            terms, found = self.see_fake(judged, self.fake(task, step, judged, frames), frames)
        else:
            terms = dict.fromkeys(astuple(self.terms), frames[0].new_zeros(()))
            found = [torch.zeros_like(x) for x in frames]
        return step.hand_in(task, terms, dict(zip(kinds, found, strict=True)))

    def _begin(self, task: Task, step: TensorStore) -> None:
        """What depends on step and lane alone: the same for the real and the fake side."""
        number, lane = step.key(task)
        self._is_penalised = self.cfg.loss.r1_gamma > 0 and (number - 1) % self.cfg.loss.r1_every == 0
        if self.cfg.discriminator.augment != "none":
            rng = step_rng(self.cfg.run.seed, number, lane)
            self._augmentations = draw(rng, step.lane(task.lane).clip.size.clips)

    @property
    def _strength(self) -> Tensor | None:
        """Of adaptive augmentation, a weight of networks that have it."""
        return getattr(self.module, "strength", None)

    def _judge(self, inputs: Tensor) -> losses.LayerOutputs:
        seen, module = inputs, self.module
        if self._augmentations:
            seen = augmented(inputs, self.colours, self._augmentations, self._strength)
        outputs: losses.LayerOutputs = module(seen)
        return outputs

    def see_real(self, inputs: Tensor, kept: Any = None) -> Pass:
        """Judge the real side (N, C, H, W), the rows of a clip one after the other."""
        loss = self.cfg.loss
        if not self._is_penalised:
            return Pass(self._judge(inputs), kept)
        inputs = inputs.detach().requires_grad_()
        judged = Pass(self._judge(inputs), kept)
        judged.penalty = loss.r1_every * losses.r1_penalty(judged.on_real, inputs, self.colours, loss.r1_gamma)
        return judged

    def see_fake(self, judged: Pass, inputs: list[Tensor], wanted: list[Tensor]
                 ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Losses on the fake sides (N, C, H, W), and gradients of the generator's to the `wanted` leaves."""
        loss, disc = self.cfg.loss, self.cfg.discriminator
        on_fakes, times = [self._judge(x) for x in inputs], self.n_kinds // len(inputs)
        weight = times * self.weight
        gan = scaled(losses.add(
            [losses.gan_loss(f, True, loss.gan_mode, for_generator=True) for f in on_fakes]), weight)
        features = scaled(losses.add([losses.feature_matching(
            f, judged.on_real, disc.num_D, disc.n_layers_D, loss.lambda_feat) for f in on_fakes]), weight)
        # The real side stands in the total once for each kind of fake frame (spec: losses 4).
        real = scaled(losses.gan_loss(judged.on_real, True, loss.gan_mode), self.n_kinds)
        of_fakes = [scaled(losses.gan_loss(f, False, loss.gan_mode), times) for f in on_fakes]
        of_real = 0.5 * real
        judged.spreads = spread([judged.on_real], loss.gan_mode), spread(times * on_fakes, loss.gan_mode)
        found = torch.autograd.grad(gan + features, wanted, retain_graph=True)
        names = self.terms
        terms = {names.gan: gan, names.features: features, names.real: real, names.fake: losses.add(of_fakes)}
        if judged.penalty is not None:
            terms[names.r1] = judged.penalty
            of_real = of_real + judged.penalty
        if self._strength is not None:
            scores = torch.cat([scale[-1].flatten() for scale in judged.on_real])
            of_real = of_real + strength_loss(self._strength, scores, MIDDLE[loss.gan_mode])
        judged.own_losses = [of_real, *(0.5 * x for x in of_fakes)]
        return terms, list(found)

    def backward(self, judged: Pass, weight: float) -> None:
        """The discriminator's own loss into its weights; ends the pass."""
        assert judged.spreads is not None
        for own_loss in judged.own_losses:  # one after the other: autograd would add their gradients weight by weight
            self.engine.backward(scaled(own_loss, weight))
        self.tally.add(*judged.spreads, weight)
