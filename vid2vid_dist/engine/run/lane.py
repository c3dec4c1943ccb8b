"""A lane: one clip (or a few that are normalised together) in flight, chunk after chunk.

It holds everything that one chunk hands to the next of the same clip: the given frames that the next chunk
looks back at, the last generated frames of every scale, and the temporal discriminators' past. Nothing
crosses clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config, ParallelConfig
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.run.in_flight import ClipState
from vid2vid_dist.models.generator import GeneratedChunk
from vid2vid_dist.models.labels import EncodedLabels, pyramid
from vid2vid_dist.models.temporal import TemporalPlan, frames_kept, temporal_plan
from vid2vid_dist.network_input import encode_inputs, encode_pictures


def count_lanes(parallel: ParallelConfig, n_ranks: int) -> int:
    """Lanes of a step, all ranks together."""
    return parallel.clips_per_step // parallel.batch_size or n_ranks


def look_back(cfg: Config, n_seen: int) -> int:
    """Frames before a chunk that a resumed clip must have decoded: the generator's, and those of temporal groups."""
    return max(cfg.generator.n_frames_G - 1, frames_kept(cfg.discriminator, n_seen))


@dataclass(frozen=True)
class Chunk:
    """What the roles see of one chunk: B clips, T frames to generate, tG - 1 given frames before them."""

    label_stack: EncodedLabels  # tG - 1 + T frames
    real_stack: Tensor  # (B, tG - 1 + T, 3, H, W) in [-1, 1]
    n_past: int  # tG - 1
    is_first: bool  # the clip starts with this chunk

    @property
    def labels(self) -> EncodedLabels:
        """Of the T frames to generate."""
        return self.label_stack.frames(slice(self.n_past, None))

    @property
    def real(self) -> Tensor:
        """(B, T, 3, H, W), what the generated frames should have been."""
        return self.real_stack[:, self.n_past :]

    @property
    def real_prev(self) -> Tensor:
        """(B, T, 3, H, W), the real frame before each of `real`."""
        return self.real_stack[:, self.n_past - 1 : -1]


@dataclass(frozen=True)
class TemporalRow:
    """Frames of a clip in a row, the buffer's first and then the chunk's: what temporal groups index into."""

    real: Tensor  # (B, P + T, 3, H, W)
    fake_past: Tensor  # (B, P, 3, H, W); the chunk's own frames carry gradients and are added by the role
    flow: Tensor  # (B, P + T, 2, H, W) reference flow of each frame to the frame before it
    plan: TemporalPlan


class Lane:
    """The state of one lane between two chunks; tensors lie on the rank's device, in the compute dtype."""

    def __init__(self, cfg: Config, device: torch.device, dtype: torch.dtype) -> None:
        self._cfg, self._device, self._dtype = cfg, device, dtype
        self._n_past = cfg.generator.n_frames_G - 1
        self._given: list[Frames] = []  # last tG - 1 frames of each clip, as decoded
        self.n_seen = 0  # frames generated so far
        self.history: list[Tensor] = []  # per scale (B, tG - 1, 3, h, w), coarsest first; empty at a clip's start
        self._past: dict[str, Tensor] = {}  # "real", "fake", "flow": (B, P, ., H, W)
        self._saved: ClipState | None = None  # to be taken up with the next frames

    def feed(self, frames: list[Frames]) -> Chunk:
        """The next chunk from newly decoded frames, one entry per clip.

        The first time after the lane was made they begin with the tG - 1 given frames.
        """
        if self._given:
            frames = [_join(given, new) for given, new in zip(self._given, frames, strict=True)]
        self._given = [_last(f, self._n_past) for f in frames]
        chunk = Chunk(
            label_stack=encode_inputs(self._cfg, frames, self._device, self._dtype),
            real_stack=encode_pictures(frames, self._device, self._dtype),
            n_past=self._n_past,
            is_first=self.n_seen == 0,
        )
        saved, self._saved = self._saved, None
        return chunk if saved is None else self._take_up(saved, chunk)

    def temporal_row(self, chunk: Chunk, flow: Tensor) -> TemporalRow:
        """The row that this chunk's temporal groups are taken from; `flow` (B, T, 2, H, W) is its reference flow."""
        plan = temporal_plan(self._cfg.discriminator, self.n_seen, chunk.real.shape[1])
        past = self._past or {"real": chunk.real[:, :0], "fake": chunk.real[:, :0], "flow": flow[:, :0]}
        return TemporalRow(
            real=torch.cat([past["real"], chunk.real], dim=1),
            fake_past=past["fake"],
            flow=torch.cat([past["flow"], flow], dim=1),
            plan=plan,
        )

    def previous_fake(self, chunk: Chunk, fake: Tensor) -> Tensor:
        """(B, T, 3, H, W), the frame before each generated one: generated, or real at the start of a clip."""
        before = chunk.real_prev[:, :1] if chunk.is_first else self.history[-1][:, -1:]
        return torch.cat([before, fake[:, :-1]], dim=1).detach()

    def keep(self, generated: GeneratedChunk, row: TemporalRow) -> None:
        """Remember what the next chunk of the clip needs of this one."""
        self.history = generated.history
        self.n_seen += generated.fake.shape[1]
        n = row.plan.keep
        row_fake = torch.cat([row.fake_past, generated.fake.detach()], dim=1)
        tail = {"real": row.real, "fake": row_fake, "flow": row.flow}
        self._past = {name: t[:, t.shape[1] - n :].clone() for name, t in tail.items()}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold of a clip in flight (`ClipState.state`)."""
        clip = ClipState(self.n_seen)
        finest = len(self.history) - 1
        for scale, stack in (*enumerate(self.history), *([(finest, self._past["fake"])] if self._past else [])):
            # Frames before the first generated one are given: they are decoded again.
            clip.images |= {(scale, i): x for i, x in self._numbered(stack) if i >= 0}
        clip.reference = dict(self._numbered(self._past["flow"])) if self._past else {}
        return clip.state()

    def _numbered(self, stack: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The last frames of the clip so far (B, F, ., h, w), one by one, with their numbers."""
        return enumerate(stack.unbind(1), self.n_seen - stack.shape[1])

    def restore(self, clip: ClipState) -> None:
        """Take up a clip in flight. The frames fed next must begin with those that it looks back at (`look_back`)."""
        self.n_seen, self._saved = clip.n_seen, clip

    def _take_up(self, clip: ClipState, chunk: Chunk) -> Chunk:
        """History and past of the first chunk after `restore`; the chunk without the frames further back."""
        gen, kept = self._cfg.generator, frames_kept(self._cfg.discriminator, clip.n_seen)
        n_back = look_back(self._cfg, clip.n_seen)
        given = chunk.real_stack[:, n_back - self._n_past : n_back]
        start = pyramid(torch.zeros_like(given) if gen.no_first_img else given, gen.n_scales_spatial)
        first = clip.n_seen - self._n_past
        self.history = [
            torch.stack([clip.images.get((scale, first + i), x) for i, x in enumerate(stack.unbind(1))], dim=1)
            for scale, stack in enumerate(start)]
        if kept:
            numbers = range(clip.n_seen - kept, clip.n_seen)
            self._past = {"real": chunk.real_stack[:, n_back - kept : n_back],
                          "fake": torch.stack([clip.images[gen.n_scales_spatial - 1, i] for i in numbers], dim=1),
                          "flow": torch.stack([clip.reference[i][:, :2] for i in numbers], dim=1)}
        further = n_back - self._n_past
        return replace(chunk, label_stack=chunk.label_stack.frames(slice(further, None)),
                       real_stack=chunk.real_stack[:, further:])


def _join(a: Frames, b: Frames) -> Frames:
    def cat(x: Tensor | None, y: Tensor | None) -> Tensor | None:
        return None if x is None or y is None else torch.cat([x, y])

    return Frames(
        torch.cat([a.labels, b.labels]),
        cat(a.images, b.images),
        cat(a.instances, b.instances),
        a.names + b.names,
    )


def _last(frames: Frames, n: int) -> Frames:
    return Frames(
        frames.labels[-n:],
        None if frames.images is None else frames.images[-n:],
        None if frames.instances is None else frames.instances[-n:],
        frames.names[-n:],
    )
