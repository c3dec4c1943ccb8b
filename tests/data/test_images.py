"""Decoding: ids survive, wrong files are named."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from vid2vid_dist.data.images import encode_png, read_ids, read_ids_or_rgb, read_rgb, to_array
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


@pytest.mark.parametrize(
    ("data", "read", "words"),
    [
        (b"no image", read_rgb, "unreadable"),
        (encoded(NOISE)[:90], read_rgb, "unreadable"),
        (encoded(GREY), read_rgb, "mode L, expected RGB"),
        (encoded(COLOR, mode="RGBA"), read_rgb, "mode RGBA, expected RGB"),
        (encoded(COLOR, mode="RGBA"), read_ids_or_rgb, "mode RGBA"),
        (encoded(COLOR), read_ids, "expected one channel"),
        (encoded(GREY, "JPEG"), read_ids_or_rgb, "PNG"),
    ],
    ids=["no-image", "truncated", "grey-image", "rgba-image", "rgba-labels", "rgb-instances", "jpeg-labels"],
)
def test_wrong_file_is_named(data: bytes, read: Callable[[bytes, str], Image.Image], words: str) -> None:
    with pytest.raises(UserError, match=rf"(?s)some/file\.png.*{words}"):
        read(data, "some/file.png")
