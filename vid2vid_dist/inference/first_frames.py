"""What a video starts from: real frames, a picture, frames of a single-image generator, or nothing."""

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.images import NOTE, read_rgb, to_array, to_float
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.load import LoadedGenerator, SingleImage, load_single_image
from vid2vid_dist.inference.styles import FILE, book_of, classes_of, nearest_look
from vid2vid_dist.models.blocks import per_frame_norms
from vid2vid_dist.models.regions import paint_classes
from vid2vid_dist.models.single_image import GlobalWithFeatures
from vid2vid_dist.network_input import encode_inputs

log = logging.getLogger(__name__)

Images = Callable[[Frames, Tensor | None], Tensor]


@dataclass(frozen=True)
class FirstFrames:
    """`images` gives (F, 3, H, W) in [-1, 1] for the F label frames that a video begins with; None = nothing.

    Its second argument is how they are to look (`styles.Style.vectors`), for those by a network that knows looks, or
    None: then as the look that is nearest to the real frames where there are some, else as the first.
    `identity` changes with what it gives. `styled`: the checkpoint of such a network.
    """

    description: str
    images: Images | None
    identity: str
    styled: LoadedGenerator | None = None


def choose_first_frames(first: str, cfg: Config, has_images: bool, where: str, device: torch.device) -> FirstFrames:
    """The first frames that `first` names: auto (as in training), real, none, single:RUN_OR_FILE, image:FILE.

    Raises `UserError` when they cannot be had.
    """
    kind, _, path = first.partition(":")
    if kind not in ("auto", "real", "none", "single", "image") or bool(path) != (kind in ("single", "image")):
        raise UserError(f"--first {first}: write real, none, single:RUN_OR_FILE or image:FILE")
    if path and not (Path(path).is_file() or (kind == "single" and Path(path).is_dir())):
        raise UserError(f"--first {first}: no such file{' or run' * (kind == 'single')}")
    if kind == "auto":
        kind = "none" if cfg.generator.no_first_img else "real"
    if kind == "none":
        if not cfg.generator.no_first_img:
            log.warning("trained with real first frames but started from nothing: "
                        "the first frames may look worse than the later ones")
        return FirstFrames("from nothing", None, "nothing")
    if kind == "single":
        single = load_single_image(Path(path))
        _check_inputs(single, cfg)
        return _by_network(single, cfg, device, f"by {Path(path).name}")
    if kind == "image":
        return FirstFrames(f"from {Path(path).name}", _picture(Path(path)), _identity(Path(path)))
    if not has_images:
        raise UserError(f"{where} has no real frames to start from: use --first single:RUN_OR_FILE, image:FILE "
                        "or none")
    return FirstFrames("real", _real, "real")


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _real(given: Frames, look: Tensor | None) -> Tensor:
    assert given.images is not None
    return to_float(given.images, torch.float32)


def _picture(file: Path) -> Images:
    """The same picture for every frame, brought to the frames' size."""
    picture = read_rgb(file.read_bytes(), str(file))
    if NOTE in picture.info:
        log.warning("%s: %s", file, picture.info[NOTE])

    def images(given: Frames, look: Tensor | None) -> Tensor:
        height, width = given.labels.shape[-2:]
        pixels = to_array(picture.resize((width, height), Image.Resampling.BICUBIC))
        return to_float(torch.from_numpy(pixels.copy()), torch.float32).repeat(len(given.labels), 1, 1, 1)

    return images


def _check_inputs(single: SingleImage, cfg: Config) -> None:
    """Raise `UserError` for a network that was trained on other labels than the video generator."""
    n_channels = single.network.in_channels
    known = None if single.loaded is None else single.loaded.config.data
    if n_channels > cfg.label_channels or (known is not None and _kind_of_input(known) != _kind_of_input(cfg.data)):
        raise UserError(f"--first single:{single.weights} reads {n_channels} input channels"
                        f"{'' if known is None else f' of the task {known.task}'}, the video generator "
                        f"{cfg.label_channels} of the task {cfg.data.task}: it was trained on other labels")


def _by_network(single: SingleImage, cfg: Config, device: torch.device, description: str) -> FirstFrames:
    """Each frame from its own labels. The network reads as many of our input channels as it was trained with:
    published ones leave the instance edges out, which come last. One with styles is also told how every class looks.

    Raises `UserError` for one without fitted looks.
    """
    styled = single.loaded if isinstance(single.network, GlobalWithFeatures) else None
    book, encoder = (book_of(styled), deepcopy(styled.generator.netE)) if styled else (None, None)
    network = per_frame_norms(single.network).to(device, torch.float32).requires_grad_(False)

    @torch.no_grad()
    def images(given: Frames, look: Tensor | None) -> Tensor:
        inputs = _labels(single, cfg, given, device)
        if book is not None:
            classes = classes_of(given)
            if look is None:
                look = book.vectors[0] if given.images is None or encoder is None else nearest_look(
                    encoder, to_float(given.images[-1], torch.float32), classes[-1], book)
            style = paint_classes(look.expand(len(classes), -1, -1), classes)
            inputs = torch.cat([inputs, style.to(device)], dim=1)
        return torch.cat([network(frame[None]) for frame in inputs]).cpu()

    of_looks = f" {_identity(styled.run_dir / FILE)}" if styled else ""
    return FirstFrames(description, images, _identity(single.weights) + of_looks, styled)


def _labels(single: SingleImage, cfg: Config, given: Frames, device: torch.device) -> Tensor:
    """(F, C, H, W), what the network reads. Raises `UserError` for sizes that it cannot make."""
    height, width = given.labels.shape[-2:]
    unit = single.network.size_unit
    if height % unit or width % unit:
        raise UserError(f"--first single:{single.weights} makes frames whose sides are multiples of {unit}, not "
                        f"{width}x{height}")
    return encode_inputs(cfg, [given], device, torch.float32).dense()[0, :, : single.network.in_channels]


def _kind_of_input(data: DataConfig) -> tuple[str, int, int]:
    """What two networks must agree on to read the same labels; instance edges may be left out."""
    return data.task, data.label_nc, 0 if data.label_nc else data.input_nc
