"""A video of any length, frame by frame, at constant memory (spec: inference 1 and 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames, to_float
from vid2vid_dist.models.generator import GeneratedChunk, Generator
from vid2vid_dist.models.labels import EncodedLabels, encode_labels, join_frames


class VideoGenerator:
    """Generates one video after the other; between two frames it keeps n_frames_G - 1 label and image frames.

    The networks stay in training mode: they normalise by the statistics of the frame at hand, as in training.
    """

    def __init__(self, generator: Generator, cfg: Config, device: torch.device, dtype: torch.dtype) -> None:
        self._generator = generator.to(device, dtype).train().requires_grad_(False)
        self._data = cfg.data
        self._n_past = cfg.generator.n_frames_G - 1
        self._device, self._dtype = device, dtype

    def start(self, given: Frames, first_images: Tensor | None) -> None:
        """Begin a video with its first n_frames_G - 1 label frames.

        `first_images` (n_frames_G - 1, 3, H, W) in [-1, 1] are the pictures of these frames. None begins from
        nothing: the past is grey and the first generated frame takes nothing from it by warping.
        """
        assert len(given.labels) == self._n_past
        self._labels = self._encode(given)
        self._from_nothing = first_images is None
        if first_images is None:
            height, width = given.labels.shape[-2:]
            first_images = torch.zeros(self._n_past, 3, height, width)
        self._history = self._generator.start_history(first_images[None].to(self._device, self._dtype))

    @torch.no_grad()
    def step(self, frame: Frames) -> GeneratedChunk:
        """Generate the picture of the next label frame: a chunk of B = 1, T = 1."""
        labels = join_frames([self._labels, self._encode(frame)])
        generated = self._generator.generate(labels, self._history, raw_only=self._from_nothing)
        self._labels, self._history = labels.frames(slice(1, None)), generated.history
        self._from_nothing = False
        return generated

    def _encode(self, frames: Frames) -> EncodedLabels:
        """Network input of decoded frames."""
        labels = frames.labels[None].to(self._device)
        instances = None if frames.instances is None else frames.instances[None].to(self._device)
        if not self._data.label_nc:
            labels = to_float(labels, self._dtype)
        return encode_labels(labels, instances, self._data.label_nc, self._dtype)
