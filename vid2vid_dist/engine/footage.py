"""What one rank of a pipeline keeps of a clip in flight: given frames, and what its sites hand to the next step.

Frames are numbered from the first generated one, 0, on; the given frames before it have negative numbers.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, field

import torch
from torch import Tensor

from vid2vid_dist.engine.lane import Chunk
from vid2vid_dist.engine.messages import FrameSize
from vid2vid_dist.engine.tasks import Site
from vid2vid_dist.models.labels import pyramid


@dataclass
class Footage:
    """One lane's clip on this rank.

    `labels` (B, Ca, h_s, w_s) per scale, coarsest first, and `real` (B, 3, H, W), by frame. `carried`: images and
    reference flow by (name, frame), at the site they wait at; flow between skipped frames by
    (name/running number, first frame of its chunk).
    """

    n_scales: int
    n_seen: int = 0
    labels: dict[int, list[Tensor]] = field(default_factory=dict)
    real: dict[int, Tensor] = field(default_factory=dict)
    carried: dict[Site, dict[tuple[str, int], Tensor]] = field(default_factory=dict)

    def add(self, chunk: Chunk, first: int) -> None:
        """Take up the frames of a chunk that generates `first` and those after it."""
        scales = pyramid(chunk.label_stack, self.n_scales)
        for i in range(chunk.label_stack.shape[1]):
            frame = first - chunk.n_past + i
            self.labels.setdefault(frame, [labels[:, i] for labels in scales])
            self.real.setdefault(frame, chunk.real_stack[:, i])

    @property
    def size(self) -> FrameSize:
        clips, _, height, width = next(iter(self.real.values())).shape
        return FrameSize(clips, height, width)

    def label_window(self, frame: int, n_frames: int, scale: int) -> Tensor:
        """Labels of the last `n_frames` frames up to this one (B, n_frames * Ca, h, w), oldest first."""
        return torch.cat([self.labels[i][scale] for i in range(frame - n_frames + 1, frame + 1)], dim=1)

    def carry(self, site: Site, name: str, frame: int, tensor: Tensor) -> None:
        self.carried.setdefault(site, {})[name, frame] = tensor

    def advance(self, n_frames: int, n_past: int, n_kept: int) -> None:
        """Go on to the next chunk: it looks back at `n_past` frames, its temporal groups at `n_kept`."""
        self.n_seen += n_frames
        self.labels = {i: x for i, x in self.labels.items() if i >= self.n_seen - n_past}
        self.real = {i: x for i, x in self.real.items() if i >= self.n_seen - max(n_past, n_kept)}
        for site, tensors in self.carried.items():
            oldest = self.n_seen - (n_past if site.role == "generator" else n_kept)
            self.carried[site] = {key: x for key, x in tensors.items() if key[1] >= oldest}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold of a clip in flight, on the CPU; labels are decoded again."""
        return {key: x.detach().cpu().contiguous().clone() for key, x in self.tensors().items()}

    def tensors(self) -> dict[str, Tensor]:
        """The same where it lies."""
        tensors = {f"real/{i}": x for i, x in self.real.items()} | {"n_seen": torch.tensor(self.n_seen)}
        for site, found in self.carried.items():
            for (name, frame), x in found.items():
                tensors["|".join(map(str, ("carried", *astuple(site), name, frame)))] = x
        return tensors

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.n_seen = int(state["n_seen"])
        for key, tensor in state.items():
            if key.startswith("real/"):
                self.real[int(key.removeprefix("real/"))] = tensor
            elif key.startswith("carried|"):
                _, role, lane, index, scale, part, name, frame = key.split("|")
                self.carry(Site(role, int(lane), int(index), int(scale), part), name, int(frame), tensor)
