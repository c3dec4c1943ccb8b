"""Canny edges of a part of a frame are those of the whole frame, cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from skimage.feature import canny

from vid2vid_dist.data.canny import canny_edges
from vid2vid_dist.data.geometry import Box


def textured(width: int, height: int) -> Image.Image:
    """Blurred noise: weak and strong edges everywhere."""
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)).point(lambda v: min(max(3 * v - 256, 0), 255))


@pytest.mark.parametrize(("size", "boxes"), [
    ((420, 300), [(0, 0, 420, 300), (100, 80, 300, 200), (0, 250, 9, 300), (419, 0, 420, 150), (200, 100, 201, 101)]),
    ((40, 7), [(0, 0, 40, 7), (3, 2, 11, 5)]), ((2, 3), [(0, 0, 2, 3), (1, 1, 2, 2)]),
], ids=str)
def test_a_part_is_as_in_the_whole(size: tuple[int, int], boxes: list[Box]) -> None:
    image = textured(*size)
    whole = canny(np.asarray(image.convert("L")), sigma=1.0)
    assert whole.any() == (min(size) > 3)
    for left, top, right, bottom in boxes:
        np.testing.assert_array_equal(canny_edges(image, (left, top, right, bottom)), whole[top:bottom, left:right])


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.sampled_from([0, 1, 2]),
       st.sampled_from([1, 64, 255]))
@settings(deadline=None)
def test_edges_of_any_image_are_scikit_images(seed: int, width: int, height: int, blur: int, step: int) -> None:
    """Few levels make slopes of one height side by side, and such that are as steep along x as along y."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(blur)).point(lambda v: (v + 16) // step * step)
    whole = canny(np.asarray(image.convert("L")), sigma=1.0)
    np.testing.assert_array_equal(canny_edges(image, (0, 0, width, height)), whole)


@pytest.mark.parametrize("strong", [True, False])
def test_an_edge_is_followed_far_outside(strong: bool) -> None:
    """It is weak in the part and strong, or not, hundreds of pixels away."""
    pixels = np.zeros((60, 900, 3), np.uint8)
    pixels[30:] = np.interp(np.arange(900), [700, 850], [14, 60 if strong else 14])[:, None]
    image = Image.fromarray(pixels)
    found = canny_edges(image, (10, 20, 40, 40))
    assert found.any() == strong
    np.testing.assert_array_equal(found, canny(np.asarray(image.convert("L")), sigma=1.0)[20:40, 10:40])
