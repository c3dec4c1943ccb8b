"""The monitor of a training run: everything that is reported goes through here to where it is looked at."""

import logging
import resource
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vid2vid_dist.config.schema import Config
from vid2vid_dist.monitor.alarms import Alarms
from vid2vid_dist.monitor.console import print_report
from vid2vid_dist.monitor.gpu import GpuReading
from vid2vid_dist.monitor.logs import nonfatal
from vid2vid_dist.monitor.metrics import MetricsLog, Record
from vid2vid_dist.monitor.mirrors import open_mirrors
from vid2vid_dist.monitor.page import write_training_page
from vid2vid_dist.monitor.pictures import (
    colorize_labels,
    flow_pictures,
    flow_scale,
    image_pictures,
    reduced,
    tile,
    unit_pictures,
)
from vid2vid_dist.monitor.report import Sample, StepReport, Validation
from vid2vid_dist.monitor.svg_curves import number
from vid2vid_dist.monitor.video import write_video
from vid2vid_dist.scores import edges

log = logging.getLogger(__name__)

CLIP_FPS = 8  # slow enough to see single frames
PANEL_WIDTH = 512  # pixels on the page; wider panels are reduced


class RunMonitor:
    """Console, metrics.jsonl, TensorBoard and web page of one run. Only rank 0 prints and writes.

    A run that is resumed goes on in the same files. A disk that is full costs what was to be written, not the run.
    """

    def __init__(self, run_dir: Path, cfg: Config, rank: int, world_size: int) -> None:
        self._cfg = cfg
        self._web_dir = run_dir / "web"
        self._active = rank == 0
        if not self._active:
            return
        self._alarms = Alarms()
        self._metrics, self._mirrors = MetricsLog(run_dir), open_mirrors(run_dir, cfg)
        self._tensorboard = None
        if cfg.monitor.tensorboard:
            from vid2vid_dist.monitor.tensorboard import TensorBoardLog  # slow to import, and for one rank only

            self._tensorboard = TensorBoardLog(run_dir)
        self._write_page("running")
        log.info("%d %s; page: %s", world_size, "ranks" if world_size > 1 else "rank",
                 (self._web_dir / "index.html").absolute().as_uri())

    def report(self, report: StepReport, gpus: Sequence[GpuReading | None]) -> None:
        """One line on the console, one record in metrics.jsonl, TensorBoard scalars. `gpus` go by rank."""
        if not self._active:
            return
        print_report(report, _memory(gpus))
        speed = {"frames_per_second": report.frames_per_second, "seconds_per_step": report.seconds_per_step,
                 "loader_share": report.loader_share}
        self._sound(self._alarms.of_report(report))
        self._keep(asdict(report) | speed | {"gpus": [gpu and asdict(gpu) for gpu in gpus]})
        if self._tensorboard:
            groups: dict[str, dict[str, Any]] = {
                "loss": report.losses, "lr": report.lr, "speed": speed, "accuracy": report.accuracy,
                "gradient_norm": report.gradient_norms, "gradient_share": report.gradient_shares,
                "loss_share": report.loss_shares, "curriculum": {
                    name: getattr(report, name) for name in ("n_frames_total", "chunk_frames", "epoch")}}
            for rank, (busy, waiting) in enumerate(zip(report.busy, report.waiting, strict=True)):
                groups[f"rank{rank}"] = {"busy": busy, "waiting": waiting, "bubble": 1 - busy}
            groups |= {f"gpu{rank}": asdict(gpu) for rank, gpu in enumerate(gpus) if gpu}
            scalars = {f"{group}/{name}": value for group, figures in groups.items()
                       for name, value in figures.items() if isinstance(value, (int, float))}
            with nonfatal("TensorBoard's scalars"):
                self._tensorboard.scalars(report.step, scalars)
                for name, above in report.spreads.items():
                    self._tensorboard.spread(report.step, f"scores/{name}", edges(self._cfg.loss.gan_mode), above)

    def sample(self, step: int, sample: Sample) -> None:
        """Pictures and a video of one clip, on the run's page and in TensorBoard."""
        if not self._active:
            return
        panels = sample_panels(sample, self._cfg.data.label_nc)
        frames = tiled(panels)
        folder = f"media/step_{step:08d}"
        alarms, figures = self._alarms.of_sample(sample)
        l1 = figures["L1"] = float((sample.fake - sample.real).abs().mean())
        with nonfatal(f"the sample of step {step}"):
            self._write_clip(folder, frames)
            self._keep({"step": step, "sample": folder, "panels": list(panels), "frames": len(frames), "l1": l1})
        self._sound(alarms)
        self._write_page("running")
        self._to_tensorboard(step, "sample", figures, panels, "clip/fake", panels["fake"])

    def validation(self, step: int, validation: Validation) -> None:
        """Figures of the validation clips, and the frames of the first of them."""
        if not self._active:
            return
        panels = validation.panels
        frames = tiled(panels)
        folder = f"media/validation_{step:08d}"
        log.info("validation at step %d: %s", step, "  ".join(
            f"{name} {number(value)}" for name, value in validation.figures.items()))
        record: Record = {"step": step, "validation": validation.figures}
        with nonfatal(f"the validation clip of step {step}"):
            self._write_clip(folder, frames)
            record |= {"clip": folder, "panels": list(panels), "frames": len(frames)}
        self._keep(record)
        self._write_page("running")
        self._to_tensorboard(step, "validation", validation.figures, panels, "clip/validation", frames)

    def _to_tensorboard(self, step: int, kind: str, figures: dict[str, float], panels: dict[str, np.ndarray],
                        tag: str, clip: np.ndarray) -> None:
        """Figures, the newest picture of each panel, and a clip."""
        if self._tensorboard:
            with nonfatal("TensorBoard's pictures"):
                self._tensorboard.scalars(step, {f"{kind}/{name}": value for name, value in figures.items()})
                for name, pictures in panels.items():
                    self._tensorboard.image(step, f"{kind}/{name}", pictures[-1])
                self._tensorboard.clip(step, tag, clip, CLIP_FPS)

    def _write_clip(self, folder: str, frames: np.ndarray) -> None:
        """A picture of the first frame and, of several, a video below `web`."""
        (self._web_dir / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(frames[0]).save(self._web_dir / folder / "first.png")
        if len(frames) > 1:
            write_video(self._web_dir / folder / "clip.mp4", frames, CLIP_FPS)

    def event(self, message: str) -> None:
        """A line that is worth keeping: on the console and in metrics.jsonl."""
        if self._active:
            log.info("%s", message)
            self._keep({"event": message})

    def _sound(self, alarms: list[str]) -> None:
        for alarm in alarms:
            log.warning("alarm: %s", alarm)
            self._keep({"event": f"alarm: {alarm}"})

    def saved(self, step: int, folder: str, seconds: float, stall: float, fault: str | None) -> None:
        """How a checkpoint went. `seconds`: until it was in force; `stall`: in which training stood still."""
        if not self._active:
            return
        text = f"saved {folder} in {seconds:.1f} s, training stood still {1000 * stall:.0f} ms" if fault is None else (
            f"step {step} could not be saved ({fault}): training goes on, the checkpoint before stays in force, and "
            "the next save tries again")
        log.log(logging.ERROR if fault else logging.INFO, "%s", text)
        self._keep({"event": text, "step": step, "seconds": seconds, "stall": stall, "fault": fault})
        if self._tensorboard and fault is None:
            with nonfatal("TensorBoard's scalars"):
                self._tensorboard.scalars(step, {"checkpoint/seconds": seconds, "checkpoint/stall": stall})

    def close(self, outcome: str = "finished") -> None:
        """Write the page a last time with the outcome on it; from then on it no longer reloads itself."""
        if not self._active:
            return
        with nonfatal("the end of metrics.jsonl"):
            self._metrics.close()
        self._write_page(outcome)
        for mirror in self._mirrors:
            mirror.close()
        if self._tensorboard:
            with nonfatal("the end of TensorBoard's events"):
                self._tensorboard.close()

    def _keep(self, record: Record) -> None:
        with nonfatal("metrics.jsonl"):
            self._metrics.write(record)
        for mirror in self._mirrors:
            mirror.write(record)

    def _write_page(self, state: str) -> None:
        with nonfatal("the run's page"):
            self._web_dir.mkdir(parents=True, exist_ok=True)
            try:
                write_training_page(self._web_dir, self._cfg, self._metrics.journal, state)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                log.warning("the run's page cannot be drawn from metrics.jsonl, which holds odd values (%r)", error)


def sample_panels(sample: Sample, label_nc: int) -> dict[str, np.ndarray]:
    """The pictures `(T, H, W, 3)` of a sample by name, in the order in which they are shown."""
    labels = colorize_labels(sample.labels, label_nc) if label_nc else image_pictures(sample.labels)
    panels = {"label": labels, "fake": image_pictures(sample.fake), "real": image_pictures(sample.real),
              "raw": image_pictures(sample.raw)}
    scale = flow_scale(sample.flow, sample.flow_ref)
    if sample.flow is not None:
        panels["flow"] = flow_pictures(sample.flow, scale)
    if sample.weight is not None:
        panels["weight"] = unit_pictures(sample.weight)
    return panels | {"reference flow": flow_pictures(sample.flow_ref, scale),
                     "confidence": unit_pictures(sample.conf_ref)}


def tiled(panels: dict[str, np.ndarray]) -> np.ndarray:
    """The frames `(T, H, W, 3)` of all panels side by side, as the page shows them."""
    return reduced(tile(list(panels.values())), panels["real"].shape[2], PANEL_WIDTH)


def _memory(gpus: Sequence[GpuReading | None]) -> str:
    """Memory of the fullest GPU; where none is seen, the peak of this process."""
    used = [gpu.memory_used for gpu in gpus if gpu and gpu.memory_used is not None]
    if used:
        return f"GPU {max(used):.1f} GiB"
    return f"RAM {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
