"""The device and number format that generation runs with, and the memory that it took."""

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.untrusted import shown


def choose_device(device: str) -> torch.device:
    """`device` is auto, cpu or cuda. Raises `UserError` for another, and for a GPU that is not there."""
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device {shown(device)}: choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def choose_dtype(precision: str, cfg: Config, device: torch.device) -> torch.dtype:
    """`precision` is fp32, bf16, or auto: as in training on a GPU, fp32 on a CPU, where bf16 is slower. Raises
    `UserError` for another."""
    if precision == "auto":
        precision = "bf16" if cfg.optim.precision == "bf16" and device.type == "cuda" else "fp32"
    if precision not in ("fp32", "bf16"):
        raise UserError(f"precision {shown(precision)}: choose auto, fp32 or bf16")
    return DTYPES[precision]


def peak_memory(device: torch.device) -> float:
    """GiB at most so far: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextmanager
def counted(what: str, n_frames: int, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Gives what is to be called after each frame. On a terminal, and with rich, a bar tells rate and time left."""
    if not (shown and sys.stderr.isatty() and find_spec("rich")):
        yield lambda: None
        return
    from vid2vid_dist.data.progress import progress

    with progress() as bar:
        task = bar.add_task(what, total=n_frames, unit="frames")
        yield lambda: bar.advance(task)
