"""Frames of a generator made one after the other in one graph: gradients reach back through all of them."""

from dataclasses import replace

import torch
from torch import Tensor

from vid2vid_dist.models.generator import GeneratedFrame, Generator
from vid2vid_dist.models.labels import EncodedLabels, label_pyramid, pyramid


def unrolled(generator: Generator, labels: EncodedLabels, history: list[Tensor], style: Tensor | None = None
             ) -> list[GeneratedFrame]:
    """As `Generator.generate` makes them, which holds the frames before constant."""
    n_past, scaled = generator.n_frames_G - 1, label_pyramid(labels, generator.n_scales)
    made = [list(frames.unbind(1)) for frames in history]
    frames = []
    for t in range(labels.n_frames - n_past):
        window = [scale.frames(slice(t, t + n_past + 1)) for scale in scaled]
        if style is not None:
            styles = pyramid(style[:, t : t + 1], generator.n_scales)
            window = [replace(w, style=x[:, 0]) for w, x in zip(window, styles, strict=True)]
        frames.append(generator.frame(window, [torch.stack(scale[-n_past:], dim=1) for scale in made]))
        for scale, image in zip(made, frames[-1].images, strict=True):
            scale.append(image)
    return frames
