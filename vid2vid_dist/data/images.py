"""One encoded frame -> a checked Pillow image -> an array -> a tensor. The only place that decodes pixels."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import shown

IMAGE_SUFFIXES = tuple(".jpg .JPG .jpeg .JPEG .pgm .PGM .png .PNG .ppm .PPM .bmp .BMP .tiff".split())
ID_MODES = ("L", "P", "I", "I;16", "I;16B", "I;16L")
"""Pillow modes of one channel that hold integer ids (P: the palette index is the id)."""
FORMATS = ("PNG", "JPEG", "PPM", "BMP", "TIFF")
"""What `IMAGE_SUFFIXES` stands for. Pillow knows dozens more, and runs Ghostscript for one of them."""
MAX_PIXELS = 2**26
"""Of one frame: 8192 x 8192. More is not decoded: a file of some kilobytes can claim any size."""


def read_rgb(data: bytes, where: str, size: tuple[int, int] | None = None) -> Image.Image:
    """Decode an RGB frame; `where` names it in the error. `size`, if known, is checked before pixels are decoded.

    Raises UserError for anything else.
    """
    return _decode(data, where, size, ("RGB",), "RGB (3 channels)")


def read_ids(data: bytes, where: str, size: tuple[int, int] | None = None) -> Image.Image:
    """The same of one channel of ids, 8 or 16 bit, and never JPEG."""
    return _decode(data, where, size, ID_MODES, "one channel of ids (8 or 16 bit)")


def read_ids_or_rgb(data: bytes, where: str, size: tuple[int, int] | None = None) -> Image.Image:
    """The same of label ids, or of an RGB frame that is an input image (label_nc 0)."""
    return _decode(data, where, size, (*ID_MODES, "RGB"), "one channel of label ids, or RGB")


def _decode(data: bytes, where: str, size: tuple[int, int] | None, modes: tuple[str, ...], wanted: str) -> Image.Image:
    image = _open(data, where)
    if size is not None and image.size != size:
        raise UserError(f"{where}: size {_by(image.size)} differs from the frame's other files ({_by(size)}): all "
                        "modalities of a frame need one size")
    try:
        image.load()
    except Exception as error:
        raise _unreadable(where, error) from None
    if image.mode not in modes:
        raise UserError(f"{where}: image mode {image.mode}, expected {wanted}; convert the file")
    if image.mode != "RGB":
        refuse_jpeg(image, where, "ids")
    return image


def refuse_jpeg(image: Image.Image, where: str, what: str) -> None:
    """Raise UserError for codes that JPEG does not keep."""
    if image.format == "JPEG":
        raise UserError(f"{where}: {what} in a JPEG are damaged by its compression; store them as PNG")


def _open(data: bytes, where: str) -> Image.Image:
    """The image as its header describes it, refused when it is too large to be one of our frames."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    # Broken bytes make Pillow's readers raise whatever there is: struct.error, KeyError, ZeroDivisionError, …
    except Exception as error:
        raise _unreadable(where, error) from None
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise UserError(f"{where}: image of {width}x{height} pixels, at most {MAX_PIXELS} are read; scale it down")
    return image


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _unreadable(where: str, error: Exception) -> UserError:
    return UserError(f"{where}: unreadable image ({shown(error)}); replace the file or remove its video")


def to_array(image: Image.Image) -> np.ndarray:
    """(3, H, W) uint8 of an RGB image, (1, H, W) uint8 or int32 of an id map."""
    array = np.asarray(image)
    if image.mode == "RGB":
        return array.transpose(2, 0, 1)
    return array[None] if array.dtype == np.uint8 else array[None].astype(np.int32)


def to_float(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 images -> [-1, 1] in `dtype`: (u/255 - 0.5)/0.5, computed in at least float32."""
    wide = torch.promote_types(dtype, torch.float32)
    return ((images.to(wide) / 255 - 0.5) / 0.5).to(dtype)


def encode_png(array: np.ndarray) -> bytes:
    """Lossless PNG of (3, H, W) uint8 or of ids (1, H, W), 16 bit where an id needs it."""
    if array.shape[0] == 3:
        image = Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))
    else:
        image = Image.fromarray(array[0].astype(np.uint8 if array.max() < 256 else np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
