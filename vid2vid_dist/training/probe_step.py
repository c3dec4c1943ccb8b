"""A probe before clips grow or all scales are trained: the largest step to come runs when training starts.

It reads real clips, and its update is refused (`engine.run.updates`): weights, moments and statistics stay as
they are; clips in flight are put aside (`TrainingState.aside`). A run that will not fit ends at once, not days later.

Off on CPUs unless asked for: there memory that runs out is not an error which could be explained, but the kernel's kill
or hours of swapping, and a step of the longest chunks takes long.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config, RunConfig
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.tasks import LaneChunk
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.updates import Verdict
from vid2vid_dist.monitor.plan_report import GB
from vid2vid_dist.training.curriculum import Phase, n_epochs, phase
from vid2vid_dist.training.epoch import Epoch
from vid2vid_dist.training.faults import FaultHandler
from vid2vid_dist.training.out_of_memory import is_out_of_memory

T = TypeVar("T")


class Refusal(FaultHandler):
    """Refuses every update."""

    def may_update(self, values: Mapping[str, Tensor]) -> Verdict:
        return Verdict(torch.ones((), device=self._grid.device), lambda: False)

    def read(self, decode: Callable[[], T]) -> T | None:
        return decode()


def is_probed(run: RunConfig, grid: Grid) -> bool:
    """Whether this run is to have a probe step."""
    return run.probe_step == "on" or (run.probe_step == "auto" and grid.device.type == "cuda")


def heaviest_epoch(cfg: Config, epoch: int, longest: int) -> int | None:
    """The first epoch whose steps are as large as those of the last one; None if those of `epoch` are already."""
    def size(number: int) -> tuple[int, int, bool]:
        of = phase(cfg, number, longest)
        return of.chunk_frames, of.n_frames_bp, of.train_all_scales

    largest = size(n_epochs(cfg))
    found = next(number for number in range(min(epoch, n_epochs(cfg)), n_epochs(cfg) + 1) if size(number) == largest)
    return found if found > epoch else None


def n_chunks_probed(specs: RoleSpecs, plan: Epoch, round_: int) -> int:
    """Chunks of the probe: until every role has something to do, or the clips end."""
    n_chunks = plan.rounds[round_].n_chunks
    chunks = (LaneChunk(number * plan.chunk_frames, plan.chunk_frames) for number in range(n_chunks))
    return next((number for number, chunk in enumerate(chunks, 1) if specs.active(chunk) == specs.trained), n_chunks)


@contextmanager
def naming_probe(epoch: int, now: Phase) -> Iterator[None]:
    """Around the probe: memory that runs out is told to be that of a later epoch."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(f"the probe of {_step_of(epoch, now)} does not fit: {error}") from error


def outcome_of_probe(epoch: int, now: Phase, device: torch.device) -> str:
    """A line for the journal; gives the probe's memory back to the GPU."""
    fits = f"probe: {_step_of(epoch, now)} fits"
    if device.type != "cuda":
        return fits
    most, of_all = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    return f"{fits}, {most / GB:.1f} GB of {of_all / GB:.1f} on rank 0"


def _step_of(epoch: int, now: Phase) -> str:
    return (f"a step of epoch {epoch} (chunks of {now.chunk_frames} frames, gradients through {now.n_frames_bp}, "
            f"{'all scales' if now.train_all_scales else 'the finest scale'} trained)")
