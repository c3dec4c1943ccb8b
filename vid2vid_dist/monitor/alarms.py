"""Alarms: what in a run's figures needs attention, reported once when it begins, with what to do about it."""

from dataclasses import dataclass, field

from torch import Tensor

from vid2vid_dist.monitor.report import Sample, StepReport

SATURATED, REPORTS = 0.98, 10
"""A discriminator that is right about nearly every patch of both kinds, in so many consecutive reports, has a loss near
zero, and its gradients tell the generator little. The worse of the two sides was 0.89 at most in 400 steps of the toy
street."""
FLOW_LIMIT = 0.25
"""Mean length of the predicted flow, in widths of the frame. A pixel that comes from a quarter of the frame away, on
average, is not in the frame before it: the warp shows anything."""
FROZEN, SAMPLES, STILL = 0.1, 3, 0.01
"""Change from frame to frame against that of the real frames, in so many consecutive samples; real frames (in [-1, 1])
that change less than STILL say nothing. Samples of 400 steps of the toy street had 0.4 to 1.04."""


@dataclass
class Alarm:
    """Goes off when something has been wrong `patience` times in a row, and again only after it was right once."""

    patience: int
    count: int = 0

    def goes_off(self, wrong: bool) -> bool:
        self.count = self.count + 1 if wrong else 0
        return self.count == self.patience


@dataclass
class Alarms:
    """The alarms of a run. A resumed run starts counting again."""

    _saturated: dict[str, Alarm] = field(default_factory=dict)
    _flow: Alarm = field(default_factory=lambda: Alarm(1))
    _frozen: Alarm = field(default_factory=lambda: Alarm(SAMPLES))
    _last: tuple[Tensor, Tensor] | None = None  # last frames of the last sample, generated and real

    def of_report(self, report: StepReport) -> list[str]:
        """What goes off with a report."""
        found = []
        for role in dict.fromkeys(name.partition("/")[0] for name in report.accuracy):
            real, fake = report.accuracy[f"{role}/real"], report.accuracy[f"{role}/fake"]
            if self._saturated.setdefault(role, Alarm(REPORTS)).goes_off(min(real, fake) > SATURATED):
                found.append(
                    f"discriminator {role} is saturated: {real:.1%} of its scores on real and {fake:.1%} on generated "
                    f"frames are right, in {REPORTS} consecutive reports. The generator learns little from it: look at "
                    "the samples; if they do not get better, lower its learning rate (optim.TTUR=false, optim.lr), its "
                    "width (discriminator.ndf), or start from a checkpoint before")
        return found

    def of_sample(self, sample: Sample) -> tuple[list[str], dict[str, float]]:
        """What goes off with a sample, and the figures by which: `flow` (mean length in pixels), `flow_ref` likewise,
        `motion` (change from frame to frame against that of the real frames)."""
        found, figures = [], {}
        if sample.flow is not None:
            figures["flow"] = float(sample.flow.norm(dim=1).mean())
            figures["flow_ref"] = float(sample.flow_ref.norm(dim=1).mean())
            width = sample.flow.shape[-1]
            if self._flow.goes_off(not figures["flow"] < FLOW_LIMIT * width):
                found.append(
                    f"flow explodes: {figures['flow']:.3g} pixels on average, in frames {width} wide. Take the run "
                    "back to a checkpoint before with a lower optim.lr or a higher loss.lambda_F; if it comes back, "
                    "look at the reference flow panel: where that is wrong, flow.network=raft_large")
        motion = self._motion(sample)
        if motion is not None:
            figures["motion"] = motion
            if self._frozen.goes_off(motion < FROZEN):
                found.append(
                    f"samples are frozen: generated frames change {motion:.1%} as much as the real ones, in {SAMPLES} "
                    "consecutive samples. Look at the weight panel: black everywhere means that each frame copies the "
                    "one before (lower loss.lambda_T); white, that the labels have no effect on the synthesised frame "
                    "(check the label panel and data.label_nc)")
        return found, figures

    def _motion(self, sample: Sample) -> float | None:
        """Within a sample, or from the last one where a chunk has one frame; None where there is nothing to compare."""
        if len(sample.fake) > 1:
            fake, real = sample.fake.diff(dim=0), sample.real.diff(dim=0)
        elif self._last is not None and self._last[0].shape == sample.fake[-1].shape:
            fake, real = sample.fake[-1] - self._last[0], sample.real[-1] - self._last[1]
        else:
            fake = real = sample.fake[:0]
        self._last = sample.fake[-1], sample.real[-1]
        moved = float(real.abs().mean()) if real.numel() else 0.0
        return float(fake.abs().mean()) / moved if moved > STILL else None
