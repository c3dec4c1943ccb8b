"""What goes wrong in a step but need not end the run: values that are not finite, frames that cannot be read.

All ranks decide together, so that they go on with the same clips and the same weights.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Clip, Frames
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.streams import Mark, ToHost
from vid2vid_dist.engine.run.updates import Verdict
from vid2vid_dist.errors import ResourceError, UserError
from vid2vid_dist.models.weights import save_tensors
from vid2vid_dist.training.checkpoint import Position, checkpoint_name, weights_file
from vid2vid_dist.training.copies import copied
from vid2vid_dist.training.preemption import Ask, Asked

T = TypeVar("T")


@dataclass(frozen=True)
class LaneInput:
    """What a step starts from in one lane: its clips, the frames of them that this rank has decoded for it (none, if
    its tasks read none), and what earlier chunks have left.
    """

    clips: list[Clip]
    frames: list[Frames]
    kept: dict[str, Tensor]


@dataclass
class StepInput:
    """What a step of this rank starts from. `modules`: the trained roles whose weights this rank is to write."""

    after: Position
    lanes: dict[int, LaneInput] = field(default_factory=dict)
    modules: Mapping[str, nn.Module] = field(default_factory=dict)


class FaultHandler:
    """Decides over steps, together with all other ranks: whether one can begin, and whether it may update the weights
    (`engine.run.updates`).

    `event` keeps a line in the run's journal.
    """

    def __init__(self, cfg: Config, grid: Grid, asked: Asked, event: Callable[[str], None]) -> None:
        self._cfg, self._grid, self._asked, self._event = cfg, grid, asked, event
        self._folder = Path(cfg.run.root) / cfg.run.name / "faults"
        self._n_nonfinite = self._n_unreadable = 0
        self.step_input = StepInput(Position())  # of the step under way
        self.ask = Ask.NOTHING  # what the ranks agreed on in the last step

    def may_update(self, values: Mapping[str, Tensor]) -> Verdict:
        """One small reduction says whether anything is not finite on any rank, and what any rank is asked for.

        `values` of this rank, by name. The verdict raises `UserError` on all ranks when some are not finite in more
        steps than `optim.max_nonfinite` allows.
        """
        faulty = torch.zeros(len(values), dtype=torch.int32, device=self._grid.device)
        if values:
            faulty += ~torch.stack([value.detach().double() for value in values.values()]).isfinite()
        any_faulty = faulty.sum().clamp(max=1)
        of_all = self._grid.largest(torch.stack([any_faulty, torch.full_like(any_faulty, self._asked.now())]))
        found = ToHost(torch.cat([faulty, of_all]))
        return Verdict(of_all[0].float(), lambda: self._decide(list(values), found.wait().tolist()))

    def _decide(self, names: list[str], found: list[int]) -> bool:
        """`found`: 1 for each of the names that is not finite here; whether any is anywhere; what is asked for."""
        *of_this, any_nonfinite, ask = found
        self.ask = Ask(ask)
        if not any_nonfinite:
            return True
        nonfinite = [name for name, is_faulty in zip(names, of_this, strict=True) if is_faulty]
        self._n_nonfinite += 1
        goes_on = self._n_nonfinite <= self._cfg.optim.max_nonfinite
        kept = self._keep(nonfinite, with_weights=not goes_on)
        by_rank = [f"rank {rank}: {', '.join(names)}"
                   for rank, names in enumerate(self._grid.gather(nonfinite)) if names]
        what = f"step {self.step_input.after.step + 1}: not finite: {'; '.join(by_rank)}"
        if not goes_on:
            raise UserError(
                f"{what}. No weight was changed; what the step worked on {kept}. Lower optim.lr or set "
                "optim.precision=fp32, or leave out some such steps with optim.max_nonfinite; the same command goes on "
                "from the last checkpoint"
            )
        self._event(f"{what}: left out with the rest of its clips ({self._n_nonfinite} of optim.max_nonfinite="
                    f"{self._cfg.optim.max_nonfinite}); what it worked on {kept}")
        return False

    def read(self, decode: Callable[[], T]) -> T | None:
        """The frames of this rank for a step; None, on all ranks, if one of them cannot read its own.

        Raises `UserError` when that happens more often than `data.max_faults` allows; if it allows none, on the rank
        concerned only, and nobody asks the others.
        """
        limit = self._cfg.data.max_faults
        if not limit:
            return decode()
        fault, decoded = "", None
        try:
            decoded = decode()
        except ResourceError:
            raise
        except UserError as error:
            fault = str(error)
        if not self._grid.largest(torch.full((), bool(fault), dtype=torch.int32, device=self._grid.device)).item():
            return decoded
        faults = "; ".join(text for text in self._grid.gather(fault) if text)
        self._n_unreadable += 1
        if self._n_unreadable > limit:
            raise UserError(f"more frames cannot be read than data.max_faults={limit} allows; the last: {faults}")
        self._event(f"step {self.step_input.after.step + 1}: left out with the rest of its clips "
                    f"({self._n_unreadable} of data.max_faults={limit}): {faults}")
        return None

    def _keep(self, nonfinite: list[str], with_weights: bool) -> str:
        """Leave what this rank's step started from in the run's folder; says where it is, or why it is nowhere."""
        folder = self._folder / checkpoint_name(self.step_input.after.step + 1)
        try:
            self._write(folder, nonfinite, with_weights)
        except (OSError, SafetensorError) as error:  # the other ranks wait for this one's answer
            return f"could not be kept ({error})"
        return f"is in {folder}"

    def _write(self, folder: Path, nonfinite: list[str], with_weights: bool) -> None:
        given = self.step_input
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        clips = {}
        for number, lane in given.lanes.items():
            tensors |= {f"lane_{number}/kept/{name}": tensor for name, tensor in lane.kept.items()}
            names = [frames.names for frames in lane.frames] or [[] for _ in lane.clips]
            clips[number] = [asdict(clip) | {"frames": of_clip}
                             for clip, of_clip in zip(lane.clips, names, strict=True)]
            for i, frames in enumerate(lane.frames):
                planes = {"labels": frames.labels, "images": frames.images, "instances": frames.instances}
                tensors |= {f"lane_{number}/clip_{i}/{name}": x for name, x in planes.items() if x is not None}
        files = {f"rank_{self._grid.rank:05d}.safetensors": copied(tensors)}
        if with_weights:
            files |= {weights_file(folder, role).name: copied(module.state_dict())
                      for role, module in given.modules.items()}
        Mark(self._grid.device).wait()
        for name, content in files.items():
            save_tensors(content, folder / name)
        told = {"after": asdict(given.after), "nonfinite": nonfinite, "lanes": clips}
        (folder / f"rank_{self._grid.rank:05d}.json").write_text(json.dumps(told, indent=1))
