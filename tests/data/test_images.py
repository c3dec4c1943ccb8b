"""Decoding: ids survive, wrong files are named."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from vid2vid_dist.data.images import NOTE, encode, encode_png, read_ids, read_ids_or_rgb, read_rgb, to_array
from vid2vid_dist.errors import UserError


def encoded(array: np.ndarray, format: str = "PNG", mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("largest", [34, 255, 256, 26031, 65535])
def test_ids_survive(largest: int) -> None:
    ids = np.linspace(0, largest, 24 * 40).astype(np.int32).reshape(1, 24, 40)
    again = to_array(read_ids(encode_png(ids), "x"))
    np.testing.assert_array_equal(again, ids)
    assert again.dtype == (np.uint8 if largest < 256 else np.int32)


def test_palette_index_is_the_id() -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(ids, "P")
    image.putpalette([255 - i for i in range(256) for _ in range(3)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    np.testing.assert_array_equal(to_array(read_ids_or_rgb(buffer.getvalue(), "x"))[0], ids)


GREY = np.zeros((8, 8), np.uint8)
COLOR = np.zeros((8, 8, 3), np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def two_pages() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(COLOR).save(buffer, "TIFF", save_all=True, append_images=[Image.fromarray(NOISE)])
    return buffer.getvalue()


def pgm(levels: int) -> bytes:
    """Ids 0..5 of 8 or 16 bits in a PGM that claims so many levels."""
    return b"P5 3 2 %d\n" % levels + bytes(range(6 if levels < 256 else 12))


def four_bits() -> bytes:
    """A grey PNG of 4 bits a pixel: Pillow spreads them over 0..255."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0\x12")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "read", "words"),
    [
        (encoded(np.arange(6, dtype=np.int32).reshape(2, 3) - 2, "TIFF"), read_ids, r"ids below 0 \(\[-2, -1\]\)"),
        (encoded(np.zeros((2, 3), np.float32), "TIFF"), read_ids, "mode F"),
        (encoded(COLOR, "WEBP"), read_ids, "mode RGB"),
        (pgm(34), read_ids, "spread"),
        (pgm(1000), read_ids_or_rgb, "spread"),
        (four_bits(), read_ids, "spread"),
        (two_pages(), read_rgb, "holds 2 pictures"),
        (b"no image", read_rgb, "unreadable"),
        (encoded(NOISE)[:90], read_rgb, "unreadable"),
        (encoded(COLOR, mode="RGBA"), read_rgb, "mode RGBA, expected RGB"),
        (encoded(COLOR, mode="RGBA"), read_ids_or_rgb, "mode RGBA"),
        (encoded(COLOR), read_ids, "expected one channel"),
        (encoded(GREY, "JPEG"), read_ids_or_rgb, "PNG"),
    ],
    ids=["below-0", "float", "webp", "34-levels", "1000-levels", "4-bits", "pages",
         "no-image", "truncated", "rgba-image", "rgba-labels", "rgb-instances", "jpeg-labels"],
)
def test_wrong_file_is_named(data: bytes, read: Callable[[bytes, str], Image.Image], words: str) -> None:
    with pytest.raises(UserError, match=rf"(?s)some/file\.png.*{words}"):
        read(data, "some/file.png")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_frames_are_turned_as_viewers_show_them(format: str, orientation: int) -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    Image.fromarray(NOISE[:4]).save(buffer, format, exif=exif)
    shown = ImageOps.exif_transpose(Image.open(buffer))
    size = (8, 4) if orientation < 5 else (4, 8)
    np.testing.assert_array_equal(read_rgb(buffer.getvalue(), "x", size), np.asarray(shown))
    with pytest.raises(UserError, match="differs from the frame's other files"):
        read_rgb(buffer.getvalue(), "x", size[::-1])


@pytest.mark.parametrize(
    ("data", "expected", "note"),
    [
        (encoded(NOISE[..., 0]), NOISE[..., [0, 0, 0]], "grey is taken as RGB"),
        (encoded(NOISE[..., 0].astype(np.uint16) * 256), NOISE[..., [0, 0, 0]], "of 16 bit the upper 8"),
        (b"P6 8 8 65535\n" + np.repeat(NOISE, 2, axis=-1).tobytes(), NOISE, "of 16 bits a channel the upper 8"),
        (encoded(NOISE), NOISE, None),
    ],
    ids=["grey", "16-bit-grey", "16-bit", "rgb"],
)
def test_what_is_made_of_frames_is_noted(data: bytes, expected: np.ndarray, note: str | None) -> None:
    image = read_rgb(data, "x")
    np.testing.assert_array_equal(image, expected)
    assert (note or "") in image.info.get(NOTE, "")
    assert (NOTE in image.info) == (note is not None)


def test_ids_beyond_16_bits_stay_apart() -> None:
    ids = np.array([[[1, 70001, 70001 - 2**16]]])
    suffix, data = encode(ids)
    assert suffix == ".tiff"
    np.testing.assert_array_equal(to_array(read_ids(data, "x")), ids)
