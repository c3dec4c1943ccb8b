"""One encoded frame -> a checked Pillow image -> an array. The only place that decodes pixels."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import shown

ID_MODES = ("L", "P", "I", "I;16", "I;16B", "I;16L")
"""Pillow modes of one channel that hold integer ids (P: the palette index is the id)."""
FORMATS = ("PNG", "JPEG", "PPM", "BMP", "TIFF")
"""What `folders.SUFFIXES` stands for. Pillow knows dozens more, and runs Ghostscript for one of them."""
MAX_PIXELS = 2**26
"""Of one frame: 8192 x 8192. More is not decoded: a file of some kilobytes can claim any size."""


def decode(data: bytes, modality: str, where: str, size: tuple[int, int] | None = None) -> Image.Image:
    """Decode one frame of `labels`, `images`, `instances` or `densepose`; `where` names it in the error.

    Ids are one channel, 8 or 16 bit, and never JPEG; images are RGB. Label frames may be RGB
    too: then they are an input image (label_nc 0). `size` (width, height), if given, is checked before pixels are
    decoded. Raises UserError for anything else.
    """
    image = _open(data, where)
    if size is not None and image.size != size:
        raise UserError(f"{where}: size {image.size} differs from the index, {size}: pack the shards again")
    try:
        image.load()
    except Exception as error:
        raise _unreadable(where, error) from None
    if modality == "densepose" and image.format == "JPEG":
        raise UserError(f"{where}: body parts in a JPEG are damaged by its compression; store them as PNG")
    if modality != "instances" and image.mode == "RGB":
        return image
    if modality in ("images", "densepose") or image.mode not in ID_MODES:
        wanted = {
            "images": "RGB (3 channels)",
            "densepose": "RGB (coordinates u, v and the part's number)",
            "instances": "one channel of ids (8 or 16 bit)",
            "labels": "one channel of label ids, or RGB",
        }[modality]
        raise UserError(f"{where}: image mode {image.mode}, expected {wanted}; convert the file")
    if image.format == "JPEG":
        raise UserError(f"{where}: ids in a JPEG are damaged by its compression; store them as PNG")
    return image


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


def _unreadable(where: str, error: Exception) -> UserError:
    return UserError(f"{where}: unreadable image ({shown(error)}); replace the file or remove its video")


def to_array(image: Image.Image) -> np.ndarray:
    """(3, H, W) uint8 of an RGB image, (1, H, W) uint8 or int32 of an id map."""
    array = np.asarray(image)
    if image.mode == "RGB":
        return array.transpose(2, 0, 1)
    return array[None] if array.dtype == np.uint8 else array[None].astype(np.int32)


def encode_png(array: np.ndarray) -> bytes:
    """Lossless PNG of (3, H, W) uint8 or of ids (1, H, W), 16 bit where an id needs it."""
    if array.shape[0] == 3:
        image = Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))
    else:
        image = Image.fromarray(array[0].astype(np.uint8 if array.max() < 256 else np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def encode_flow(flow: np.ndarray, valid: np.ndarray) -> bytes:
    """Flow (2, H, W) in pixels and its mask (H, W) as a KITTI flow PNG: 16 bit, steps of 1/64 pixel."""
    stored = np.clip(np.rint(flow * 64) + 2**15, 0, 2**16 - 1)
    bgr = np.stack([valid, stored[1], stored[0]], axis=-1).astype(np.uint16)
    return cv2.imencode(".png", bgr)[1].tobytes()


def decode_flow(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Flow (2, H, W) float32 in pixels and its mask (H, W) bool of a KITTI flow PNG."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert bgr is not None, "not a flow PNG"
    flow = (bgr[..., 2:0:-1].astype(np.float32) - 2**15) / 64
    return flow.transpose(2, 0, 1), bgr[..., 0] > 0
