"""Validation clips: the same few ones all through a run, so that what is made of them can be compared over time.

Each frame is generated from the generated ones before it, as videos are in the end, by the trained weights and, with
`optim.ema_decay`, by the averaged ones. One rank does it, the first that holds the generator, while the others wait;
nothing random is drawn, and no weight or statistic changes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource, Frames, Request
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.flow import FlowReference, build_flow
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.models.warp_error import warp_error
from vid2vid_dist.monitor.pictures import image_pictures, input_pictures
from vid2vid_dist.monitor.report import Validation
from vid2vid_dist.network_input import encode_inputs, encode_pictures
from vid2vid_dist.training.state import TrainingState

N_CLIPS, N_FRAMES = 2, 6
"""Clips, and generated frames of each. They cost N_CLIPS x N_FRAMES forward passes of the generator at every
`monitor.pictures_every`-th step, twice as many with averaged weights."""


@dataclass(frozen=True)
class ValidationClip:
    """The first frames of a video as decoded, given ones included, and reference flow between the real ones: of the
    second generated frame and of each after it to the frame before, none without a network for it. On the CPU."""

    frames: Frames
    reference: list[FlowReference]


class ValidationClips:
    """Those of a run, and this rank's part in them."""

    def __init__(self, cfg: Config, grid: Grid, state: TrainingState, event: Callable[[str], None]) -> None:
        """`event` keeps a line in the run's journal. Clips that cannot be read cost the figures, not the run."""
        self._cfg, self._grid, self._state = cfg, grid, state
        self._n_past = cfg.generator.n_frames_G - 1
        self._rank = state.first_holder("generator")
        self._clips: list[ValidationClip] = []
        self._is_on = bool(cfg.monitor.pictures_every)
        if self._is_on:
            self._is_on, told = grid.from_rank(self._rank, self._open() if grid.rank == self._rank else None)
            event(told)

    def is_due(self, step: int) -> bool:
        """Whether clips are generated after a step; the same on all ranks."""
        return self._is_on and step % self._cfg.monitor.pictures_every == 0

    def measure(self) -> Validation | None:
        """Generate the clips; on rank 0 what came of it. All ranks call it together."""
        found: Any = self._generate() if self._grid.rank == self._rank else None
        return found if self._rank == 0 else self._grid.from_rank(self._rank, found)

    def _open(self) -> tuple[bool, str]:
        """Read the clips; whether there are any, and what to say of them."""
        try:
            source, why = open_source(self._cfg)
            self._clips = self._read(source)
        except UserError as error:
            return False, f"no validation clips: {error}"
        n_frames = sum(len(clip.frames.names) - self._n_past for clip in self._clips)
        weights = ", with trained and with averaged weights" if self._cfg.optim.ema_decay else ""
        return True, (f"validation every {self._cfg.monitor.pictures_every} steps: rank {self._rank} generates "
                      f"{n_frames} frames of {len(self._clips)} clips of the {source.split} split{weights}{why}")

    def _read(self, source: ClipSource) -> list[ValidationClip]:
        """The beginnings of the first videos. Raises `UserError` for frames that cannot be read or generated."""
        generator = self._state.generator
        assert generator is not None
        with torch.random.fork_rng([]):  # its weights are drawn before they are loaded
            flow = build_flow(self._cfg.flow).to(self._grid.device) if self._cfg.flow.network != "none" else None
        clips = []
        for number in range(min(N_CLIPS, source.n_videos)):
            clip = source.whole(number)
            generator.check_size(*clip.geometry.size)
            frames = source.load(Request.span(clip, 0, min(clip.n_frames, self._n_past + N_FRAMES)))
            real = self._real(frames).unbind(1)[self._n_past :]
            references = [flow(now, before) for before, now in pairwise(real)] if flow is not None else []
            clips.append(ValidationClip(frames, [FlowReference(x.flow.cpu(), x.confidence.cpu()) for x in references]))
        return clips

    def _generate(self) -> Validation:
        figures: dict[str, list[float]] = {}
        panels: dict[str, np.ndarray] = {}
        weights = {"": False, **({"_averaged": True} if self._state.ema is not None else {})}
        for number, clip in enumerate(self._clips):
            real = self._real(clip.frames)[0, self._n_past :]
            made = {f"fake{name}": self._video(clip, averaged) for name, averaged in weights.items()}
            for name, frames in {**made, "real": real}.items():
                figures.setdefault(f"warp_error_{name}", []).extend(self._warp_errors(frames, clip))
                if name != "real":
                    figures.setdefault(f"L1_{name}", []).append(float((frames.float() - real.float()).abs().mean()))
            if not number:
                shown = clip.frames.part(slice(self._n_past, None))
                panels = {"label": input_pictures(shown.labels, self._cfg.data),
                          **{name: image_pictures(frames.cpu()) for name, frames in {**made, "real": real}.items()}}
        return Validation({name: float(np.mean(values)) for name, values in figures.items() if values}, panels)

    @torch.no_grad()
    def _video(self, clip: ValidationClip, averaged: bool) -> Tensor:
        """The generated frames (T, 3, H, W) of a clip, each from those before it; with styles as the real ones look."""
        real = self._real(clip.frames)
        given = real[:, : self._n_past]
        labels = encode_inputs(self._cfg, [clip.frames], self._grid.device, self._dtype)
        from_nothing = self._cfg.generator.no_first_img
        made = []
        with self._state.generator_left_alone(averaged) as generator:
            history = generator.start_history(torch.zeros_like(given) if from_nothing else given)
            for t in range(labels.n_frames - self._n_past):
                window = labels.frames(slice(t, t + self._n_past + 1))
                now = slice(t + self._n_past, t + self._n_past + 1)
                frame = generator.generate(window, history, style=generator.style_of(real[:, now], labels.frames(now)),
                                           raw_only=from_nothing and t == 0)
                history = frame.history
                made.append(frame.fake[0, 0])
        return torch.stack(made)

    def _warp_errors(self, frames: Tensor, clip: ValidationClip) -> list[float]:
        """Of each frame but the first that has pixels whose flow is trusted."""
        wide = frames.to(torch.promote_types(frames.dtype, torch.float32))
        errors = [warp_error(now[None], before[None], FlowReference(x.flow.to(now), x.confidence.to(now))).mean
                  for before, now, x in zip(wide, wide[1:], clip.reference, strict=False)]
        return [float(error) for error in errors if error.isfinite()]

    @property
    def _dtype(self) -> torch.dtype:
        return DTYPES[self._cfg.optim.precision]

    def _real(self, frames: Frames) -> Tensor:
        """(1, F, 3, H, W) in [-1, 1], on this rank's device."""
        return encode_pictures([frames], self._grid.device, self._dtype)


def open_source(cfg: Config) -> tuple[ClipSource, str]:
    """The test split; the training split where there is none with pictures, and why."""
    try:
        source = ClipSource.of(cfg, "test")
        if "images" in source.index.modalities:
            return source, ""
        why = "the test split has no real frames"
    except UserError as error:
        why = str(error)
    return ClipSource.of(cfg), f" ({why})"


def generate_command(cfg: Config, run_dir: Path) -> str:
    """What makes videos of the test split, or of the training split where there is none."""
    command = f"vid2vid-generate {run_dir}"
    try:
        modalities = ClipSource.of(cfg, "test").index.modalities
    except UserError:
        return f"{command} --split train"
    return command if "images" in modalities or cfg.generator.no_first_img else f"{command} --first none"
