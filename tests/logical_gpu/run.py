"""A command of the project on a logical GPU: python -m tests.logical_gpu.run REPORT COMMAND arguments …

Writes what the GPU would have shown to REPORT, under torchrun that of rank 0 (the others beside it, .RANK).
"""

from tests.logical_gpu.audit import AUDIT
from tests.logical_gpu.cuda import install, install_nccl  # before torch

install()
install_nccl()

import json
import os

RANK = int(os.environ.get("RANK", "0"))
os.environ["LOCAL_RANK"] = "0"  # every rank sees one GPU, its own

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from vid2vid_dist.inference.generate import Maker
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.training.reporter import Reporter
from vid2vid_dist.training.state import TrainingState
from vid2vid_dist.training.steps import Steps
from vid2vid_dist.training.trainer import Trainer
from vid2vid_dist.training.validation import ValidationClips

PHASES = [(Steps, "run", "step"), (Reporter, "after_step", "report"), (TrainingState, "snapshot", "checkpoint"),
          (ValidationClips, "measure", "validation"), (Trainer, "_dry_run", "probe"), (Maker, "make", "video"),
          (VideoGenerator, "start", "start"), (VideoGenerator, "step", "frame"), (VideoGenerator, "keep", "keep")]


def count_as(owner: type, method: str, phase: str) -> None:
    call = getattr(owner, method)

    def within(*args: Any, **options: Any) -> Any:
        if AUDIT.phase == "probe":
            return call(*args, **options)
        with AUDIT.within(phase):
            return call(*args, **options)

    setattr(owner, method, within)


def main() -> None:
    report, command, *arguments = sys.argv[1:]
    for owner, method, phase in PHASES:
        count_as(owner, method, phase)
    sys.argv = [command, *arguments]
    try:
        import_module(f"vid2vid_dist.cli.{command}").main()
    finally:
        Path(f"{report}.{RANK}" if RANK else report).write_text(json.dumps(vars(AUDIT)))


if __name__ == "__main__":
    main()
