"""What one rank has of a clip in flight: the frames that its tasks read, and what its sites hand to the next step.

Frames are numbered from the first generated one, 0, on; the given frames before it have negative numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, field

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.messages import FrameSize
from vid2vid_dist.engine.plan.tasks import Site
from vid2vid_dist.engine.run.in_flight import ClipState
from vid2vid_dist.engine.run.lane import Chunk
from vid2vid_dist.models.labels import EncodedLabels, join_frames, label_pyramid


@dataclass(frozen=True)
class Reads:
    """Frames of a clip that somebody reads: encoded labels of some, real pictures of others."""

    labels: frozenset[int] = frozenset()
    real: frozenset[int] = frozenset()

    def __or__(self, other: Reads) -> Reads:
        return Reads(self.labels | other.labels, self.real | other.real)

    def __sub__(self, other: Reads) -> Reads:
        return Reads(self.labels - other.labels, self.real - other.real)

    def kept(self, n_seen: int, n_past: int, n_kept: int) -> Reads:
        """Those that a chunk may look back at which follows `n_seen` frames: at `n_past` with the generator, at
        `n_kept` with the temporal groups."""
        return Reads(frozenset(i for i in self.labels if i >= n_seen - n_past),
                     frozenset(i for i in self.real if i >= n_seen - max(n_past, n_kept)))


@dataclass
class ClipBuffer:
    """One lane's clip on this rank.

    `labels` per scale, coarsest first, and `real` (B, 3, H, W), by frame. `carried`: images and
    reference flow by (name, frame), at the site they wait at; flow between skipped frames by
    (name/running number, first frame of its chunk).
    """

    n_scales: int
    size: FrameSize
    n_seen: int = 0
    labels: dict[int, list[EncodedLabels]] = field(default_factory=dict)
    real: dict[int, Tensor] = field(default_factory=dict)
    carried: dict[Site, dict[tuple[str, int], Tensor]] = field(default_factory=dict)

    def add_labels(self, numbers: Iterable[int], encoded: EncodedLabels) -> None:
        """Take up input frames of these numbers."""
        scales = label_pyramid(encoded, self.n_scales)
        for t, number in enumerate(numbers):
            self.labels[number] = [labels.frames(slice(t, t + 1)) for labels in scales]

    def add_real(self, numbers: Iterable[int], pictures: Tensor) -> None:
        """Take up real frames (B, F, 3, H, W) in [-1, 1] of these numbers."""
        self.real |= dict(zip(numbers, pictures.unbind(1), strict=True))

    def label_window(self, frame: int, n_frames: int, scale: int) -> EncodedLabels:
        """Labels of the last `n_frames` frames up to this one, oldest first."""
        return join_frames([self.labels[i][scale] for i in range(frame - n_frames + 1, frame + 1)])

    def chunk(self, n_frames: int) -> Chunk:
        """The next chunk at full size, without the frames before it."""
        numbers = range(self.n_seen, self.n_seen + n_frames)
        labels, real = [self.labels[i][-1] for i in numbers], [self.real[i] for i in numbers]
        return Chunk(join_frames(labels), torch.stack(real, dim=1), n_past=0, is_first=self.n_seen == 0)

    def carry(self, site: Site, name: str, frame: int, tensor: Tensor) -> None:
        self.carried.setdefault(site, {})[name, frame] = tensor

    def advance(self, n_frames: int, n_past: int, n_kept: int) -> None:
        """Go on to the next chunk: it looks back at `n_past` frames, its temporal groups at `n_kept`."""
        self.n_seen += n_frames
        kept = Reads(frozenset(self.labels), frozenset(self.real)).kept(self.n_seen, n_past, n_kept)
        self.labels = {i: x for i, x in self.labels.items() if i in kept.labels}
        self.real = {i: x for i, x in self.real.items() if i in kept.real}
        for site, tensors in self.carried.items():
            oldest = self.n_seen - (n_past if site.role == "generator" else n_kept)
            self.carried[site] = {key: x for key, x in tensors.items() if key[1] >= oldest}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold of a clip in flight, not copied; labels and real frames are decoded again."""
        tensors = {"n_seen": torch.tensor(self.n_seen)}
        for site, found in self.carried.items():
            for (name, frame), x in found.items():
                tensors["|".join(map(str, ("carried", *astuple(site), name, frame)))] = x
        return tensors

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self.n_seen = int(state["n_seen"])
        for key, tensor in state.items():
            if key.startswith("carried|"):
                _, role, lane, index, scale, part, name, frame = key.split("|")
                self.carry(Site(role, int(lane), int(index), int(scale), part), name, int(frame), tensor)

    def take_up(self, clip: ClipState, lane: int, cfg: Config) -> None:
        """Take up a clip that was saved elsewhere, as lane `lane` of this pipeline. Whichever site comes to this rank
        finds what it may look back at; what it does not look at goes with the next `advance`."""
        self.n_seen = clip.n_seen
        temporal = [Site(f"temporal_{s}", lane) for s in range(cfg.discriminator.n_scales_temporal)]
        for (scale, frame), image in clip.images.items():
            heirs = [Site("generator", lane, t, scale) for t in range(cfg.generator.n_frames_G - 1)]
            for site in [*heirs, *(temporal if scale == self.n_scales - 1 else [])]:
                self.carry(site, f"image/{scale}", frame, image)
        for frame, flow in clip.reference.items():
            for site in temporal:
                self.carry(site, "reference", frame, flow)
