"""A clip in flight as checkpoints hold it, wherever its frames were made: on one rank or on several.

Tensors are saved under `image/SCALE/FRAME` and `reference/FRAME`, frames counted from the first generated one; a rank
of a pipeline adds in front where they wait (`ClipBuffer.state`). Labels and real frames are decoded again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

N_SEEN = "n_seen"
_KEY = re.compile(r"(?:^|\|)(image/(?P<scale>\d+)|reference)[/|](?P<frame>-?\d+)$")


@dataclass
class ClipState:
    """What the frames so far hand to those that come. `n_seen`: frames generated so far; `images` (B, 3, h, w) by
    (scale, frame); `reference`: flow to the frame before (B, 2, H, W), perhaps with confidence as a third channel,
    by frame.
    """

    n_seen: int = 0
    images: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    reference: dict[int, Tensor] = field(default_factory=dict)

    def state(self) -> dict[str, Tensor]:
        """Tensors by the names under which they are saved."""
        return {N_SEEN: torch.tensor(self.n_seen),
                **{f"image/{scale}/{frame}": x for (scale, frame), x in self.images.items()},
                **{f"reference/{frame}": x for frame, x in self.reference.items()}}

    @classmethod
    def read(cls, files: list[Path], device: torch.device) -> ClipState:
        """From all files of a clip. Flow that was computed ahead of the next chunk is left: it is computed again."""
        clip = cls()
        for path in files:
            with safe_open(path, "pt", device=str(device)) as file:
                clip.n_seen = int(file.get_tensor(N_SEEN))
                for key in file.keys():  # noqa: SIM118 - it is no dictionary
                    match = _KEY.search(key)
                    if match and int(match["frame"]) < clip.n_seen:
                        clip._add(match["scale"], int(match["frame"]), file.get_tensor(key))
        return clip

    def _add(self, scale: str | None, frame: int, tensor: Tensor) -> None:
        if scale is None:
            self.reference[frame] = tensor
        else:
            self.images[int(scale), frame] = tensor


def clip_files(folder: Path, lane: int) -> list[Path]:
    """The files of a lane of the run, of all ranks."""
    return sorted(folder.glob(f"lane_{lane:04d}.*"))
