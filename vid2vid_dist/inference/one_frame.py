"""The step from one frame to the next as a program of its own, for other runtimes: ONNX, or torch.export.

    OUT/step.onnx, OUT/step.pt2                the next frame
    OUT/first_step.onnx, OUT/first_step.pt2    the first one of a video that starts from nothing

Input `labels` (1, n_frames_G, C, H, W): one-hot classes, then instance edges, or pictures in [-1, 1], the newest frame
last. Input `history_S` (1, n_frames_G - 1, 3, h, w) in [-1, 1] for every scale S, zeros where there is nothing. Output
`image_S` (1, 3, h, w) in [-1, 1] for every scale: the newest of the next history, the last one the frame.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import LoadedGenerator
from vid2vid_dist.models.blocks import per_frame_norms
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import EncodedLabels, label_pyramid


class OneFrame(nn.Module):
    """A generator without styles, for frames of one size."""

    def __init__(self, generator: Generator, *, raw_only: bool) -> None:
        super().__init__()
        self.generator = per_frame_norms(deepcopy(generator)).float().eval().requires_grad_(False)
        self._raw_only = raw_only

    def forward(self, labels: Tensor, *history: Tensor) -> tuple[Tensor, ...]:
        windows = label_pyramid(EncodedLabels(labels), self.generator.n_scales)
        return tuple(self.generator.frame(windows, list(history), self._raw_only).images)


@dataclass(frozen=True)
class StepOptions:
    """Which programs are wanted, for frames of `size` (width, height)."""

    size: tuple[int, int]
    onnx: bool
    torch_export: bool


def write_steps(loaded: LoadedGenerator, folder: Path, options: StepOptions) -> None:
    """Write the wanted programs into `folder`.

    Raises `UserError` for models with styles, and for sizes that the network cannot halve often enough.
    """
    cfg, (width, height) = loaded.config, options.size
    if loaded.generator.netE is not None:
        raise UserError("a model with styles has no program of one frame: export it without --onnx and --torch-export")
    loaded.generator.check_size(width, height)
    labels = torch.zeros(1, cfg.generator.n_frames_G, cfg.label_channels, height, width)
    history = loaded.generator.start_history(torch.zeros(1, cfg.generator.n_frames_G - 1, 3, height, width))
    scales = range(len(history))
    steps = {"step": False, **({"first_step": True} if cfg.generator.no_first_img else {})}
    for name, raw_only in steps.items():
        program = torch.export.export(OneFrame(loaded.generator, raw_only=raw_only), (labels, *history))
        if options.torch_export:
            torch.export.save(program, folder / f"{name}.pt2")
        if options.onnx:
            import onnxscript  # noqa: F401 - torch would complain about it in other words

            made = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=["labels", *(f"history_{s}" for s in scales)],
                output_names=[f"image_{s}" for s in scales])
            assert made is not None
            made.save(folder / f"{name}.onnx")
