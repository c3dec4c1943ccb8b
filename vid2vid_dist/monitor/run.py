"""The face of the monitor: what a training run reports, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.monitor.gpu import GpuReading


@dataclass(frozen=True)
class StepReport:
    """One interval of training, `steps` optimiser steps long, ending with optimiser step `step`."""

    step: int
    epoch: int
    steps: int  # optimiser steps since the last report
    seconds: float  # wall time since the last report
    loader_wait: float  # seconds of them that were spent waiting for data
    frames: int  # generated since the last report, all ranks together
    losses: dict[str, float]
    lr: dict[str, float]
    eta: float | None  # seconds to the end of the stage, None = unknown
    n_frames_total: int  # generated frames per clip at present
    chunk_frames: int  # generated frames per step and clip at present


@dataclass(frozen=True)
class Sample:
    """The T generated frames of one clip, float tensors on the CPU. Images and labels lie in [-1, 1]."""

    labels: Tensor  # (T, 1, H, W) class ids, or (T, C, H, W) image when data.label_nc is 0
    fake: Tensor  # (T, 3, H, W)
    raw: Tensor  # (T, 3, H, W)
    real: Tensor  # (T, 3, H, W)
    flow: Tensor | None = None  # (T, 2, H, W) pixels, x first
    weight: Tensor | None = None  # (T, 1, H, W) in [0, 1]
    flow_ref: Tensor | None = None  # (T, 2, H, W) pixels
    conf_ref: Tensor | None = None  # (T, 1, H, W) in [0, 1]


class RunMonitor:
    """Console, metrics.jsonl, TensorBoard and web page of one run. Ranks other than 0 write nothing."""

    def __init__(self, run_dir: Path, cfg: Config, rank: int, world_size: int) -> None:
        raise NotImplementedError

    def report(self, report: StepReport, gpus: list[GpuReading | None]) -> None:
        """One line on the console, one record in metrics.jsonl, TensorBoard scalars; gpus by rank."""
        raise NotImplementedError

    def sample(self, step: int, sample: Sample) -> None:
        """Pictures and a video of one clip on the run's page and in TensorBoard."""
        raise NotImplementedError

    def event(self, message: str) -> None:
        """A line that is worth keeping: on the console and in metrics.jsonl."""
        raise NotImplementedError

    def close(self, outcome: str = "finished") -> None:
        """Write the page a last time, with the outcome on it; it no longer reloads itself."""
        raise NotImplementedError
