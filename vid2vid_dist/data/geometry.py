"""Scale, crop and flip of a frame (spec: data 3): drawn once per clip, shared by all its frames.

Sizes are (width, height) in pixels. Rounding is Python's (half to even), as in the original.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.images import to_array
from vid2vid_dist.data.sampling import pick
from vid2vid_dist.errors import UserError

Size = tuple[int, int]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""
MAX_PIXELS = 2**28
"""Of a scaled frame: `resize` at the largest loadSize."""


@dataclass(frozen=True)
class Draws:
    """The four random numbers of a clip: crop_x from N(0, 1), the others uniform in [0, 1)."""

    scale: float
    crop_x: float
    crop_y: float
    flip: float


MIDDLE = Draws(scale=0.5, crop_x=0.0, crop_y=0.5, flip=0.0)
"""Nothing random: the middle of every range, not flipped."""


def draw(rng: np.random.Generator) -> Draws:
    """All four numbers, whatever the mode needs: a change of mode leaves the others as they are."""
    return Draws(rng.random(), rng.standard_normal(), rng.random(), rng.random())


@dataclass(frozen=True)
class Geometry:
    """Cut out `source`, resize to `new_size`, cut the box (crop_pos, crop_size) clipped to the image, mirror.

    A crop_size of (0, 0) means no crop. What of `source` lies outside of the frame is black.
    """

    new_size: Size
    crop_size: Size = (0, 0)
    crop_pos: Size = (0, 0)
    flip: bool = False
    source: Box | None = None

    @property
    def box(self) -> Box:
        """What is left of the resized image: left, top, right, bottom."""
        (width, height), (crop_w, crop_h), (x, y) = self.new_size, self.crop_size, self.crop_pos
        if not (crop_w and crop_h):
            return 0, 0, width, height
        return x, y, min(x + crop_w, width), min(y + crop_h, height)

    @property
    def size(self) -> Size:
        """Width and height of the frames that the networks see."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    def apply(self, image: Image.Image) -> np.ndarray:
        """(3, H, W) uint8 of an RGB image (bicubic) or (1, H, W) ids of an id map (nearest)."""
        return to_array(self.cut(image))

    def cut(self, image: Image.Image) -> Image.Image:
        """The same as an image."""
        return self._cut(image, Image.Resampling.BICUBIC if image.mode == "RGB" else Image.Resampling.NEAREST)

    def apply_nearest(self, image: Image.Image) -> np.ndarray:
        """(3 | 1, H, W) uint8 of an image whose values are codes."""
        return to_array(self._cut(image, Image.Resampling.NEAREST))

    def shown(self, size: Size) -> Box:
        """The part of a frame of `size` that lies in `source`."""
        left, top, right, bottom = self.source or (0, 0, *size)
        return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])

    def apply_maps(self, maps: np.ndarray, box: Box) -> np.ndarray:
        """(C, h, w) uint8 maps of the part `box` of a frame -> (C, H, W), bilinear; black where `source` is larger."""
        from vid2vid_dist.data.scaling import Axis, scale  # numba: other tasks go without

        (left, top, right, bottom), kept = self.source or box, self.box
        columns, rows = range(kept[0], kept[2]), range(kept[1], kept[3])
        return scale(maps, Axis(bottom - top, self.new_size[1], range(box[1] - top, box[3] - top), rows),
                     Axis(right - left, self.new_size[0], range(box[0] - left, box[2] - left),
                          columns[::-1] if self.flip else columns))

    def _cut(self, image: Image.Image, method: Image.Resampling) -> Image.Image:
        if self.source is not None:
            image = image.crop(self.source)
        if image.size != self.new_size:  # Pillow would copy it
            image = image.resize(self.new_size, method)
        if self.box != (0, 0, *self.new_size):
            image = image.crop(self.box)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flip else image


def clip_geometry(size: Size, data: DataConfig, draws: Draws, may_flip: bool = True, source: Box | None = None
                  ) -> Geometry:
    """The geometry of a clip whose frames have `size`, or of which only the box `source` is used.

    The mode is read by substring, as in the original. Raises `UserError` for frames so long and thin that
    scaling them by the short side makes them gigantic.
    """
    if source is not None:
        size = source[2] - source[0], source[3] - source[1]
    mode = data.resize_or_crop
    new_size = _scaled(size, data, draws.scale)
    if new_size[0] * new_size[1] > MAX_PIXELS:
        raise UserError(f"frames of {size[0]}x{size[1]} become {new_size[0]}x{new_size[1]} with data.resize_or_crop="
                        f"{mode}, data.loadSize={data.loadSize}: scale by the other side, or cut the frames")
    flip = draws.flip > 0.5 and may_flip and not data.no_flip
    if "crop" not in mode and "scaledCrop" not in mode:
        return Geometry(_rounded(new_size, 32), flip=flip, source=source)
    crop_size = _rounded(_crop_size(size, mode, data.fineSize), 32)
    return Geometry(new_size, crop_size, _crop_pos(new_size, crop_size, draws), flip, source)


def _scaled(size: Size, data: DataConfig, u_scale: float) -> Size:
    """The scaled size before a crop, rounded to multiples of 4."""
    (width, height), mode = size, data.resize_or_crop
    side = data.fineSize + pick(u_scale, n_scales(data)) if "randomScale" in mode else data.loadSize
    if "resize" in mode:
        size = side, side
    elif "scaleWidth" in mode or "randomScaleWidth" in mode:
        size = side, side * height // width
    elif "scaleHeight" in mode or "randomScaleHeight" in mode:
        size = side * width // height, side
    return _rounded(size, 4)


def n_scales(data: DataConfig) -> int:
    """How many sizes a frame may be scaled to."""
    return data.loadSize + 2 - data.fineSize if "randomScale" in data.resize_or_crop else 1


def _crop_size(size: Size, mode: str, fine_size: int) -> Size:
    width, height = size
    if "crop" in mode:
        return fine_size, fine_size
    if "Width" in mode:
        return fine_size, fine_size * height // width
    return fine_size * width // height, fine_size


def _crop_pos(new_size: Size, crop_size: Size, draws: Draws) -> Size:
    """Gaussian around the centre in x, uniform near the top in y."""
    spare_x, spare_y = (max(0, new - crop) for new, crop in zip(new_size, crop_size, strict=True))
    span = spare_x // 2
    x = min(max(int(draws.crop_x * span / 3 + span), 0), 2 * span)
    y = pick(draws.crop_y, min(spare_y, new_size[1] // 8) + 1)
    return x, y


def _rounded(size: Size, multiple: int) -> Size:
    width, height = (max(1, round(n / multiple)) * multiple for n in size)
    return width, height
