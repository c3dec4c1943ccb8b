"""What a video starts from: real frames, a picture, frames of a single-image generator, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.clips import Frames, to_float
from vid2vid_dist.data.images import decode, to_array
from vid2vid_dist.engine.lane import encode_inputs
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import SingleImage, load_single_image
from vid2vid_dist.models.blocks import per_frame_norms

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opening:
    """`images` gives (F, 3, H, W) in [-1, 1] for the F label frames that a video begins with; None = nothing.

    `identity` changes with what it gives.
    """

    description: str
    images: Callable[[Frames], Tensor] | None
    identity: str


def choose_opening(wish: str, cfg: Config, has_images: bool, where: str, device: torch.device) -> Opening:
    """The opening that `wish` names: auto (as in training), real, none, single:RUN_OR_FILE, image:FILE.

    Raises `UserError` when it cannot be had.
    """
    kind, _, path = wish.partition(":")
    if path and not (Path(path).is_file() or (kind == "single" and Path(path).is_dir())):
        raise UserError(f"--first {wish}: no such file{' or run' * (kind == 'single')}")
    if kind == "auto":
        kind = "none" if cfg.generator.no_first_img else "real"
    if kind == "none":
        if not cfg.generator.no_first_img:
            log.warning("trained with real first frames but started from nothing: "
                        "the first frames may look worse than the later ones")
        return Opening("from nothing", None, "nothing")
    if kind == "single" and path:
        single = load_single_image(Path(path))
        return Opening(f"by {Path(path).name}", _by_network(single, cfg, device), _identity(single.weights))
    if kind == "image" and path:
        return Opening(f"from {Path(path).name}", _picture(Path(path)), _identity(Path(path)))
    if kind != "real":
        raise UserError(f"--first {wish}: write real, none, single:RUN_OR_FILE or image:FILE")
    if not has_images:
        raise UserError(f"{where} has no real frames to start from: use --first single:RUN_OR_FILE, image:FILE "
                        "or none")
    return Opening("real", _real, "real")


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _real(given: Frames) -> Tensor:
    assert given.images is not None
    return to_float(given.images, torch.float32)


def _picture(file: Path) -> Callable[[Frames], Tensor]:
    """The same picture for every frame, brought to the frames' size."""
    picture = decode(file.read_bytes(), "images", str(file))

    def images(given: Frames) -> Tensor:
        height, width = given.labels.shape[-2:]
        pixels = to_array(picture.resize((width, height), Image.Resampling.BICUBIC))
        return to_float(torch.from_numpy(pixels.copy()), torch.float32).repeat(len(given.labels), 1, 1, 1)

    return images


def _by_network(single: SingleImage, cfg: Config, device: torch.device) -> Callable[[Frames], Tensor]:
    """Each frame from its own labels. The network reads as many of our input channels as it was trained with:
    published ones leave the instance edges out, which come last.
    """
    network = per_frame_norms(single.network).to(device, torch.float32).requires_grad_(False)
    n_channels, unit = network.in_channels, network.size_unit
    known = None if single.config is None else single.config.data
    if n_channels > cfg.label_channels or (known is not None and _kind_of_input(known) != _kind_of_input(cfg.data)):
        raise UserError(f"--first single:{single.weights} reads {n_channels} input channels"
                        f"{'' if known is None else f' of the task {known.task}'}, the video generator "
                        f"{cfg.label_channels} of the task {cfg.data.task}: it was trained on other labels")

    @torch.no_grad()
    def images(given: Frames) -> Tensor:
        height, width = given.labels.shape[-2:]
        if height % unit or width % unit:
            raise UserError(f"--first single:{single.weights} makes frames whose sides are multiples of {unit}, not "
                            f"{width}x{height}")
        labels = encode_inputs(cfg, [given], device, torch.float32).dense()[0, :, :n_channels]
        return torch.cat([network(frame[None]) for frame in labels]).cpu()

    return images


def _kind_of_input(data: DataConfig) -> tuple[str, int, int]:
    """What two networks must agree on to read the same labels; instance edges may be left out."""
    return data.task, data.label_nc, 0 if data.label_nc else data.input_nc
