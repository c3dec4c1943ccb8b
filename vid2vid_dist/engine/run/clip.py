"""A clip in flight on one rank: the frames that its tasks read, and what its steps hand on to the next.

Frames are numbered from the first generated one, 0, on; the given frames before it have negative numbers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from vid2vid_dist.engine.plan.tasks import NeededFrames
from vid2vid_dist.engine.plan.tensors import FrameSize, Part, TensorKind, What, image, reference
from vid2vid_dist.models.labels import EncodedLabels, join_frames, label_pyramid, pyramid

N_SEEN = "n_seen"
# image/SCALE/FRAME and reference/GAP/FRAME. Checkpoints before 0.2 named the site in front, and no gap of flow; what
# they had computed ahead between skipped frames is computed again.
_KEY = re.compile(r"(?:^|.*\|)(?:image/(?P<scale>\d+)|reference(?:/(?P<gap>\d+))?)[/|](?P<frame>-?\d+)")


@dataclass
class ClipInFlight:
    """One lane's clip, or a few that are normalised together.

    `labels` per scale, coarsest first, and `real` (B, 3, H, W), by frame. `made`: what steps hand on to the next,
    generated images and reference flow, by kind and frame. `flows` (B, 2, H, W) in pixels, by frame and gap: of the
    chunk to come, found by the loader.
    """

    n_scales: int
    size: FrameSize
    n_seen: int = 0
    labels: dict[int, list[EncodedLabels]] = field(default_factory=dict)
    real: dict[int, Tensor] = field(default_factory=dict)
    flows: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    made: dict[Part, Tensor] = field(default_factory=dict)
    _given: dict[int, list[Tensor]] = field(default_factory=dict)

    def add_labels(self, numbers: Iterable[int], encoded: EncodedLabels) -> None:
        """Take up input frames of these numbers."""
        scales = label_pyramid(encoded, self.n_scales)
        for t, number in enumerate(numbers):
            self.labels[number] = [labels.frames(slice(t, t + 1)) for labels in scales]

    def add_real(self, numbers: Iterable[int], pictures: Tensor) -> None:
        """Take up real frames (B, F, 3, H, W) in [-1, 1] of these numbers."""
        self.real |= dict(zip(numbers, pictures.unbind(1), strict=True))

    def add_flows(self, pairs: Iterable[tuple[int, int]], flows: Tensor) -> None:
        """Take up flow (B, P, 2, H, W) of these frames and gaps."""
        self.flows |= dict(zip(pairs, flows.unbind(1), strict=True))

    def label_window(self, frame: int, n_frames: int, scale: int) -> EncodedLabels:
        """Labels of the last `n_frames` frames up to this one, oldest first."""
        return join_frames([self.labels[i][scale] for i in range(frame - n_frames + 1, frame + 1)])

    def given(self, frame: int, scale: int) -> Tensor:
        """A real frame from before the first generated one, at a scale."""
        if frame not in self._given:
            self._given[frame] = [x[:, 0] for x in pyramid(self.real[frame][:, None], self.n_scales)]
        return self._given[frame][scale]

    def seen(self, n_frames: int) -> tuple[EncodedLabels, Tensor]:
        """Labels at full size, and real frames (B, T, 3, H, W), of the next chunk."""
        numbers = range(self.n_seen, self.n_seen + n_frames)
        return (join_frames([self.labels[i][-1] for i in numbers]), torch.stack([self.real[i] for i in numbers], dim=1))

    def advance(self, n_frames: int, n_past: int, n_kept: int) -> None:
        """Go on to the next chunk: it looks back at `n_past` frames, its temporal groups at `n_kept`."""
        self.n_seen += n_frames
        kept = NeededFrames(frozenset(self.labels), frozenset(self.real)).kept(self.n_seen, n_past, n_kept)
        self.labels = {i: x for i, x in self.labels.items() if i in kept.labels}
        self.real = {i: x for i, x in self.real.items() if i in kept.real}
        self._given.clear()
        self.flows.clear()

        def oldest(kind: TensorKind) -> int:
            coarse = kind.what == What.IMAGE and kind.scale < self.n_scales - 1
            return self.n_seen - (n_past if coarse else max(n_past, n_kept))

        self.made = {part: x for part, x in self.made.items() if part.frame >= oldest(part.kind)}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold, not copied; labels and real frames are decoded again."""
        found = {N_SEEN: torch.tensor(self.n_seen)}
        for (kind, frame), x in self.made.items():
            found[f"{kind.what}/{kind.scale if kind.what == What.IMAGE else kind.gap}/{frame}"] = x
        return found

    def restore(self, files: Iterable[Path], device: torch.device, with_ahead: bool) -> None:
        """Take up what `state` gave, of one rank or of several. `with_ahead`: also what was computed for the chunk to
        come."""
        for path in files:
            with safe_open(path, "pt", device=str(device)) as file:
                self.n_seen = int(file.get_tensor(N_SEEN))
                for key in file.keys():  # noqa: SIM118 - it is no dictionary
                    found = _KEY.fullmatch(key)
                    if found and (with_ahead or int(found["frame"]) < self.n_seen):
                        kind = image(int(found["scale"])) if found["scale"] else reference(int(found["gap"] or 1))
                        self.made[Part(kind, int(found["frame"]))] = file.get_tensor(key)


def clip_files(folder: Path, lane: int) -> list[Path]:
    """The files of a lane of the run, of all ranks."""
    return sorted(folder.glob(f"lane_{lane:04d}.*"))


def saved_n_seen(path: Path) -> int:
    """Frames that a saved clip has behind it."""
    with safe_open(path, "pt") as file:
        return int(file.get_tensor(N_SEEN))
