"""Maps are scaled as Pillow scales them, whatever their size: equal bytes."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vid2vid_dist.data.geometry import Geometry

lengths = st.integers(1, 90)
sizes = st.tuples(lengths, lengths)


@settings(max_examples=200, deadline=None)
@given(sizes, sizes, sizes, sizes, st.tuples(lengths, lengths), st.integers(1, 5), st.booleans())
@example((86, 87), (64, 40), (0, 0), (0, 0), (90, 90), 2, False)  # high ones: along y first, since Pillow 13
@example((1, 1), (64, 1), (0, 0), (0, 0), (1, 1), 1, True)
@example((900, 3), (4, 40), (0, 0), (0, 0), (700, 3), 1, False)
def test_maps_are_scaled_as_by_pillow(source: tuple[int, int], new: tuple[int, int], corner: tuple[int, int],
                                      crop: tuple[int, int], frame: tuple[int, int], n_maps: int, flip: bool) -> None:
    """The source sticks out of a frame on two sides by some pixels; of what it becomes a crop is kept."""
    geometry = Geometry(new, crop if all(crop) else (0, 0), (min(corner[0], new[0] - 1), min(corner[1], new[1] - 1)),
                        flip, source=(-2, -3, source[0], source[1]))
    maps = np.random.default_rng(n_maps).integers(0, 256, (n_maps, frame[1], frame[0]), dtype=np.uint8)
    left, top, right, bottom = shown = geometry.shown(frame)
    found = geometry.apply_maps(maps[:, top:bottom, left:right], shown)
    assert found.shape == (n_maps, *geometry.size[::-1])
    left, top, right, bottom = geometry.box
    assert geometry.source
    for one, drawn in zip(found, maps, strict=True):
        image = Image.fromarray(drawn).crop(geometry.source).resize(new, Image.Resampling.BILINEAR)
        expected = np.asarray(image)[top:bottom, left:right]
        np.testing.assert_array_equal(one, expected[:, ::-1] if flip else expected)


def test_large_maps_are_scaled_as_by_pillow() -> None:
    generator = np.random.default_rng(0)
    for size, new in (((431, 430), (512, 512)), ((700, 699), (512, 512)), ((1920, 1080), (96, 64))):
        drawn = generator.integers(0, 256, (1, *size[::-1]), dtype=np.uint8)
        found = Geometry(new).apply_maps(drawn, (0, 0, *size))
        np.testing.assert_array_equal(found[0], Image.fromarray(drawn[0]).resize(new, Image.Resampling.BILINEAR))
