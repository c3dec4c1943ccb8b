"""The pictures of one generated frame by caption, and its figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.images import to_float
from vid2vid_dist.inference.colours import ColourMeter, edit_figures
from vid2vid_dist.inference.edits import NO_EDIT, LabelEdit
from vid2vid_dist.inference.styles import Style
from vid2vid_dist.models.flow import ReferenceFlow
from vid2vid_dist.models.warp_error import FIGURES, WarpErrorMeter
from vid2vid_dist.monitor.pictures import heat_pictures, image_pictures, input_pictures

HEAT_SCALE = 0.25  # error, of a colour range of 1, that the heat map shows as its brightest


@dataclass(frozen=True)
class Look:
    """One output of every video: its name, how its labels differ from those read, and its style if the model knows
    several."""

    name: str = "output"
    edit: LabelEdit = NO_EDIT
    style: Style | None = None

    @property
    def input_name(self) -> str:
        return "input edited" if self.edit else "input"


def make_looks(styles: Sequence[Style], edit: LabelEdit) -> list[Look]:
    """The outputs of every video: one for each style, and of each another one with the edit if there is one."""
    plain = [Look("output" if len(styles) == 1 else style.name, style=style) for style in styles] or [Look()]
    edited = [Look("edited" if len(plain) == 1 else f"{look.name} edited", edit, look.style) for look in plain]
    return [*plain, *(edited if edit else [])]


class FrameView:
    """Turns the frames of one video into panels; with a flow, the warp error of the first output and of the real frames
    included."""

    def __init__(self, looks: Sequence[Look], data: DataConfig, flow: ReferenceFlow | None) -> None:
        self._looks, self._data, self._meter = looks, data, None if flow is None else WarpErrorMeter(flow)
        self._colours, self._n_plain = ColourMeter(), sum(not look.edit for look in looks)

    def panels(self, frame: Frames, fakes: Tensor) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Pictures `(H, W, 3)` uint8 by caption, and figures by name.

        `frame` holds one frame, as read; `fakes` (looks, 3, H, W) in [-1, 1].
        """
        pictures = {look.input_name: input_pictures(look.edit.apply(frame).labels, self._data)[0]
                    for look in self._looks}
        outputs = image_pictures(fakes)
        pictures |= {look.name: output for look, output in zip(self._looks, outputs, strict=True)}
        real = None if frame.images is None else to_float(frame.images, fakes.dtype)
        figures = {}
        if real is not None:
            pictures["real"] = image_pictures(real)[0]
            figures["L1 to real"] = float((fakes[:1] - real).abs().mean())
        if self._meter is not None:
            error = self._meter.step(fakes[:1], real)
            heat = fakes.new_zeros(1, 1, *fakes.shape[-2:]) if error is None else error.map[:1]
            pictures["warp error"] = heat_pictures(heat, HEAT_SCALE)[0]
            if error is not None and error.mean.isfinite().all():
                figures |= dict(zip(FIGURES, error.mean.tolist(), strict=False))
        if self._data.label_nc:
            plain, edited = fakes[: self._n_plain], fakes[self._n_plain :]
            figures |= self._colours.step(frame.labels[0], plain)
            if len(edited):
                figures |= edit_figures(self._looks[-1].edit.changed(frame)[0], plain, edited)
        return pictures, figures
