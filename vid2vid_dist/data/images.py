"""One encoded frame -> a checked Pillow image -> an array -> a tensor. The only place that decodes pixels."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import shown

IMAGE_SUFFIXES = tuple(".png .jpg .jpeg .jpe .jfif .ppm .pgm .pnm .pbm .bmp .tif .tiff .webp".split())
"""In small letters."""
ID_MODES = ("L", "P", "I", "I;16", "I;16B", "I;16L")
"""Pillow modes of one channel that hold integer ids (P: the palette index is the id)."""
FORMATS = ("PNG", "JPEG", "PPM", "BMP", "TIFF", "WEBP")
"""What `IMAGE_SUFFIXES` stands for. Pillow knows dozens more, and runs Ghostscript for one of them."""
MAX_PIXELS = 2**26
"""Of one frame: 8192 x 8192. More is not decoded: a file of some kilobytes can claim any size."""
NOTE, SCALED = "note", "scaled"
"""Keys in an image's `info`: what was made of it that is worth a word to the user; whether grey levels were spread."""


def read_rgb(data: bytes, where: str, size: tuple[int, int] | None = None) -> Image.Image:
    """Decode an RGB frame; grey and palettes become RGB. `where` names it in the error.

    `size`, if known, is compared before pixels are decoded. Raises UserError for anything else.
    """
    return as_rgb(decode(data, where, size, ("RGB", "L", "P", "I;16", "I;16B"), "RGB (3 channels)"))


def read_ids(data: bytes, where: str, size: tuple[int, int] | None = None) -> Image.Image:
    """The same of one channel of ids from 0 on, of 8, 16 or 32 bit, and never JPEG."""
    return _checked_ids(decode(data, where, size, ID_MODES, "one channel of ids (8 or 16 bit)"), where)


def read_ids_or_rgb(data: bytes, where: str, size: tuple[int, int] | None = None) -> Image.Image:
    """The same of label ids, or of an RGB frame that is an input image (label_nc 0)."""
    image = decode(data, where, size, (*ID_MODES, "RGB"), "one channel of label ids, or RGB")
    return image if image.mode == "RGB" else _checked_ids(image, where)


def decode(data: bytes, where: str, size: tuple[int, int] | None, modes: tuple[str, ...], wanted: str) -> Image.Image:
    """Decode a frame of one of Pillow's `modes`, `wanted` in words, turned as its EXIF orientation says."""
    image = _open(data, where)
    if size is not None and size != image.size[::-1]:  # it may have to be turned
        require_size(image, size, where)
    codec, *_, stored = image.tile[0] if image.tile else ("", image.mode)
    raw, *parameters = (stored,) if isinstance(stored, str) else stored or ("",)
    levels = parameters[0] if codec.startswith("ppm") else 255
    image.info[SCALED] = str(raw).startswith("L;") or levels not in (255, 65535)
    if str(raw).startswith("RGB;16") or levels > 255:
        image.info[NOTE] = "of 16 bits a channel the upper 8 are used"
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:
        raise _unreadable(where, error) from None
    if size is not None:
        require_size(image, size, where)
    if image.mode not in modes:
        raise UserError(f"{where}: image mode {image.mode}, expected {wanted}; convert the file")
    return image


def require_size(image: Image.Image, size: tuple[int, int], where: str) -> None:
    """Raise UserError for an image that is not of the size of its frame's other files."""
    if image.size != size:
        raise UserError(f"{where}: size {by(image.size)} differs from the frame's other files ({by(size)}): all "
                        "modalities of a frame need one size; mend it and pack again")


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture of one channel as RGB, with a note; of 16 bits the upper 8."""
    if image.mode == "RGB":
        return image
    note = "palettes are taken as RGB" if image.mode == "P" else "grey is taken as RGB"
    if image.mode.startswith("I;16"):
        image, note = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)), f"{note}, of 16 bit the upper 8"
    image = image.convert("RGB")
    image.info[NOTE] = note
    return image


def _checked_ids(image: Image.Image, where: str) -> Image.Image:
    """Raise UserError for a file whose numbers are no ids, or were changed when it was written or read."""
    refuse_lossy(image, where, "ids")
    if image.info[SCALED]:
        raise UserError(f"{where}: grey of other than 8 or 16 bits is spread when it is read, and ids with it; store 8")
    if image.mode == "I" and (ids := ids_within(image, -2**31, 0)):
        raise UserError(f"{where}: ids below 0 ({shown(ids)}): count ids from 0")
    return image


def ids_within(image: Image.Image, low: int, high: int) -> list[int]:
    """The ids of a map from `low` to below `high`, in order."""
    ids = np.unique(np.asarray(image))
    return ids[(ids >= low) & (ids < high)].tolist()


def refuse_lossy(image: Image.Image, where: str, what: str) -> None:
    """Raise UserError for codes in a file that does not keep them."""
    if image.format in ("JPEG", "MPO", "WEBP") or "jpeg" in str(image.info.get("compression")):
        raise UserError(f"{where}: {what} in a JPEG or WebP are damaged by its compression; store them as PNG")


def _open(data: bytes, where: str) -> ImageFile.ImageFile:
    """The image as its header describes it, refused when it is too large to be one of our frames."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        n_pictures = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a photograph and its preview
    # Broken bytes make Pillow's readers raise whatever there is: struct.error, KeyError, ZeroDivisionError, …
    except Exception as error:
        raise _unreadable(where, error) from None
    if n_pictures > 1:
        raise UserError(f"{where} holds {n_pictures} pictures: store each frame in a file of its own")
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise UserError(f"{where}: image of {width}x{height} pixels, at most {MAX_PIXELS} are read; scale it down")
    return image


def by(size: Sequence[int]) -> str:
    """Width and height, for people."""
    return f"{size[0]}x{size[1]}"


def _unreadable(where: str, error: Exception) -> UserError:
    why = "of no format that is read" if isinstance(error, UnidentifiedImageError) else shown(error)
    return UserError(f"{where}: unreadable image ({why}); replace the file or remove its video")


def to_array(image: Image.Image) -> np.ndarray:
    """(C, H, W) uint8 of an image of several bands, (1, H, W) uint8 or int32 of an id map."""
    dtype = np.uint8 if image.mode not in ID_MODES or image.mode in ("L", "P") else np.int32
    array = np.empty((len(image.getbands()), image.height, image.width), dtype)
    fill(array, image)
    return array


def fill(out: np.ndarray, image: Image.Image) -> None:
    """Write what `to_array` gives into an array of its shape, of any type that holds the ids."""
    bands = image.getbands()
    for plane, band in zip(out, bands, strict=True):  # band by band: Pillow's pixels of RGB are of 4 bytes
        plane[:] = np.asarray(image) if len(bands) == 1 else np.frombuffer(
            image.tobytes("raw", band), np.uint8).reshape(plane.shape)


def to_float(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 images -> [-1, 1] in `dtype`: (u/255 - 0.5)/0.5, computed in at least float32."""
    wide = torch.promote_types(dtype, torch.float32)
    return ((images.to(wide) / 255 - 0.5) / 0.5).to(dtype)


def encode(array: np.ndarray) -> tuple[str, bytes]:
    """Suffix and lossless content of (3, H, W) uint8 or of ids (1, H, W): PNG, or TIFF where an id needs 32 bits."""
    if array.max() < 2**16:
        return ".png", encode_png(array)
    buffer = io.BytesIO()
    Image.fromarray(array[0].astype(np.int32)).save(buffer, "TIFF", compression="tiff_deflate")
    return ".tiff", buffer.getvalue()


def encode_png(array: np.ndarray) -> bytes:
    """Lossless PNG of (3, H, W) uint8 or of ids (1, H, W) below 65536, 16 bit where one needs it."""
    if array.shape[0] == 3:
        image = Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))
    else:
        image = Image.fromarray(array[0].astype(np.uint8 if array.max() < 256 else np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
