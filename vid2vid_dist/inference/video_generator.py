"""Videos of any length, frame by frame, at constant memory (spec: inference 1 and 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.inference.styles import classes_of
from vid2vid_dist.models.blocks import per_frame_norms
from vid2vid_dist.models.compute_options import compute_options_from
from vid2vid_dist.models.convolution import prepared
from vid2vid_dist.models.generator import GeneratedChunk, Generator
from vid2vid_dist.models.labels import join_frames
from vid2vid_dist.models.regions import paint_classes
from vid2vid_dist.network_input import encode_inputs, stacked


class VideoGenerator:
    """Generates B videos side by side; between two frames it keeps n_frames_G - 1 label and image frames of each.

    Every frame is normalised by its own statistics, as the original does at test time: what stands beside it in the
    batch changes nothing. With `compiled`, torch.compile makes one program of a frame; the first ones take longer.
    """

    def __init__(self, generator: Generator, cfg: Config, device: torch.device, dtype: torch.dtype, *,
                 compiled: bool = False) -> None:
        plain = per_frame_norms(generator).to(device, dtype).train().requires_grad_(False)
        self._generator = plain if compiled else prepared(plain)
        self._generator.set_compute_options(compute_options_from(cfg.optim, on_cpu=device.type == "cpu"))
        self._generate = torch.compile(self._generator.generate) if compiled else self._generator.generate
        self._cfg = cfg
        self._n_past = cfg.generator.n_frames_G - 1
        self._fg_labels = torch.tensor(cfg.generator.fg_labels if cfg.generator.fg else [], dtype=torch.uint8)
        self._device, self._dtype = device, dtype

    @property
    def knows_looks(self) -> bool:
        """Whether `start` wants looks."""
        return self._generator.netE is not None

    def start(self, given: Sequence[Frames], first_images: Tensor | None, looks: Tensor | None = None) -> None:
        """Begin B videos with the first n_frames_G - 1 label frames of each.

        `first_images` (B, n_frames_G - 1, 3, H, W) in [-1, 1] are the pictures of these frames. None begins from
        nothing: the past is grey and the first generated frame takes nothing from it by warping. `looks` (B,
        n_classes, style_nc), of a model with styles: how every class looks in all frames of each video.
        """
        assert (looks is not None) == self.knows_looks
        self._looks = None if looks is None else looks.to(self._device, self._dtype)
        assert all(len(frames.labels) == self._n_past for frames in given)
        self._labels = encode_inputs(self._cfg, given, self._device, self._dtype)
        self._from_nothing = first_images is None
        if first_images is None:
            height, width = given[0].labels.shape[-2:]
            first_images = torch.zeros(len(given), self._n_past, 3, height, width)
        self._history = self._generator.start_history(first_images.to(self._device, self._dtype))

    @torch.no_grad()
    def step(self, frames: Sequence[Frames]) -> GeneratedChunk:
        """Generate the pictures of the next label frame of each video: a chunk of T = 1.

        A foreground that no video shows is not made: nothing of it would be seen.
        """
        new = encode_inputs(self._cfg, frames, self._device, self._dtype)
        labels = join_frames([self._labels, new])
        shown = any(bool(torch.isin(frame.labels, self._fg_labels).any()) for frame in frames)
        style = None
        if self._looks is not None:
            classes = stacked([classes_of(frame)[0] for frame in frames], self._device)
            style = paint_classes(self._looks, classes)[:, None]
        generated = self._generate(labels, self._history, style=style, raw_only=self._from_nothing,
                                   with_foreground=shown)
        self._labels, self._history = labels.frames(slice(1, None)), generated.history
        self._from_nothing = False
        return generated

    def keep(self, videos: Sequence[int]) -> None:
        """Go on with some of the videos only, by their place in the batch."""
        rows = torch.tensor(videos, device=self._device)
        self._labels, self._history = self._labels.clips(rows), [scale[rows] for scale in self._history]
        self._looks = None if self._looks is None else self._looks[rows]
