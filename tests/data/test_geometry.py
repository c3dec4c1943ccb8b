"""Scale, crop and flip: sizes, ranges, and all modalities cut alike."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.geometry import MIDDLE, Draws, Geometry, clip_geometry, draw
from vid2vid_dist.data.sampling import clip_rng
from vid2vid_dist.errors import UserError

MODES = next(f for f in fields(DataConfig) if f.name == "resize_or_crop").metadata["choices"]
unit = st.floats(0, 1, exclude_max=True)
draws = st.builds(Draws, unit, st.floats(-5, 5), unit, unit)


def geometry(
    size: tuple[int, int], mode: str, load: int, fine: int = 512, with_draws: Draws = MIDDLE
) -> Geometry:
    return clip_geometry(size, DataConfig(resize_or_crop=mode, loadSize=load, fineSize=fine), with_draws)


@pytest.mark.parametrize(
    ("size", "mode", "load", "fine", "delivered"),
    [
        ((2048, 1024), "scaleWidth", 512, 512, (512, 256)),
        ((2048, 1024), "scaleWidth", 896, 512, (896, 448)),
        ((1281, 717), "none", 512, 512, (1280, 704)),
        ((1280, 720), "scaleHeight", 256, 512, (448, 256)),
        ((1280, 720), "ScaleHeight_and_scaledCrop", 384, 256, (448, 256)),  # misspelt: nothing is scaled
        ((1280, 720), "randomScaleHeight_and_scaledCrop", 384, 256, (448, 256)),
        ((2048, 1024), "resize", 256, 512, (256, 256)),
        ((2048, 1024), "crop", 512, 1024, (1024, 1024)),
        ((100, 50), "crop", 512, 256, (100, 48)),  # smaller than the crop: left as it is
        ((2048, 1024), "scaleWidth_and_crop", 512, 288, (288, 256)),  # clipped to the picture
        ((1040, 520), "none", 512, 512, (1024, 512)),  # 32.5 and 16.25 times 32: half to even
    ],
)
def test_sizes(size: tuple[int, int], mode: str, load: int, fine: int, delivered: tuple[int, int]) -> None:
    assert geometry(size, mode, load, fine).size == delivered


@pytest.mark.parametrize("mode", MODES)
@given(st.integers(64, 3000), st.integers(64, 3000), st.integers(64, 1200), st.integers(64, 1200), draws)
def test_box_lies_in_the_picture(mode: str, w: int, h: int, load: int, fine: int, drawn: Draws) -> None:
    result = geometry((w, h), mode, max(load, fine), min(load, fine), drawn)
    left, top, right, bottom = result.box
    assert 0 <= left < right <= result.new_size[0]
    assert 0 <= top < bottom <= result.new_size[1]
    if "rop" in mode:
        assert all(n % 4 == 0 for n in result.new_size)
        assert all(n % 32 == 0 for n in result.crop_size)
        assert top <= result.new_size[1] // 8
    else:
        assert all(n % 32 == 0 for n in result.size)


def test_random_scale_covers_its_range_inclusively() -> None:
    widths = {
        geometry((800, 400), "randomScaleWidth_and_crop", 67, 64, replace(MIDDLE, scale=u)).new_size[0]
        for u in np.linspace(0, 1, 1000, endpoint=False)
    }
    assert widths == {64, 68}  # 64..68 pixels, rounded to multiples of 4


def test_random_scale_needs_a_range() -> None:
    config = Config(data=DataConfig(resize_or_crop="randomScaleWidth_and_crop", loadSize=256, fineSize=512))
    with pytest.raises(UserError, match=r"fineSize=512 is above data\.loadSize=256"):
        config.check()


@given(draws)
def test_flip_only_where_it_is_allowed(drawn: Draws) -> None:
    data = DataConfig()
    assert clip_geometry((64, 32), data, drawn).flip == (drawn.flip > 0.5)
    assert not clip_geometry((64, 32), data, drawn, may_flip=False).flip
    assert not clip_geometry((64, 32), replace(data, no_flip=True), drawn).flip


def test_ids_are_never_mixed_and_images_are() -> None:
    ids = np.where(np.arange(64) % 2, 200, 7).astype(np.uint8)[None].repeat(64, 0)
    small = Geometry((24, 24), (16, 16), (3, 2), flip=False)
    assert set(np.unique(small.apply(Image.fromarray(ids)))) == {7, 200}
    assert not {7, 200} & set(np.unique(small.apply(Image.fromarray(np.dstack([ids] * 3)))))


def test_all_modalities_are_cut_alike() -> None:
    """A map whose ids are its columns, as labels, 16-bit instances and colours."""
    columns = np.arange(96, dtype=np.uint8)[None].repeat(48, 0)
    cut = Geometry((96, 48), (32, 32), (40, 5), flip=True)
    labels, instances = (cut.apply(Image.fromarray(columns.astype(t)))[0] for t in (np.uint8, np.uint16))
    colors = cut.apply(Image.fromarray(np.dstack([columns] * 3)))
    np.testing.assert_array_equal(labels, np.arange(71, 39, -1)[None].repeat(32, 0))
    np.testing.assert_array_equal(instances, labels)
    np.testing.assert_array_equal(colors, labels[None].repeat(3, 0))


def test_draws_are_uniform_and_normal() -> None:
    drawn = np.array(
        [[d.scale, d.crop_x, d.crop_y, d.flip] for d in (draw(clip_rng(0, 0, i)) for i in range(2000))]
    )
    np.testing.assert_allclose(drawn.mean(0), [0.5, 0, 0.5, 0.5], atol=0.05)
    np.testing.assert_allclose(drawn.std(0), [12**-0.5, 1, 12**-0.5, 12**-0.5], atol=0.05)
