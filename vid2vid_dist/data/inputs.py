"""What the generator is given of a frame, by task: label map or picture, face, body (spec: data 3-7).

Shards hold landmarks and poses as they are, some kilobytes a frame; they are drawn when a frame is decoded, since
the crop and what is left out differ from clip to clip. Drawn frames stay 8 bit until `clips.network_input`.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from PIL import Image

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data import face, openpose
from vid2vid_dist.data.geometry import Draws, Geometry, central_half, clip_geometry
from vid2vid_dist.data.images import decode
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.errors import UserError

N_PARTS = 24
"""Body parts of DensePose, numbered from 1."""
HEAD_PARTS = (23, 24)
PART_CHANNEL = 2
"""Of a DensePose picture: the part's number; the other two are coordinates on it."""


class FrameFiles:
    """The files of one frame in the shards, each read and decoded once and only when asked for."""

    def __init__(self, index: ShardIndex, video: int, frame: int) -> None:
        self._index, self._video, self.frame = index, video, frame
        self.size = index.videos[video].size

    def where(self, modality: str) -> str:
        return self._index.where(self._video, modality, self.frame)

    def picture(self, modality: str) -> Image.Image:
        """A decoded modality other than `images`, checked for its size."""
        data = self._index.read(self._video, modality, self.frame)
        return decode(data, modality, self.where(modality), self.size)

    @cached_property
    def image(self) -> Image.Image:
        """The real frame, RGB; background edges of a face are found in it too."""
        return self.picture("images")

    @cached_property
    def landmarks(self) -> np.ndarray:
        """(68, 2) x, y in pixels."""
        data = self._index.read(self._video, "keypoints", self.frame)
        return face.parse_landmarks(data, self.where("keypoints"), self.size)

    @cached_property
    def people(self) -> list[openpose.Person]:
        data = self._index.read(self._video, "openpose", self.frame)
        return openpose.parse_people(data, self.where("openpose"))


def input_modalities(data: DataConfig) -> tuple[str, ...]:
    """The modalities without which there is no input."""
    if data.task == "pose":
        return ("openpose",) if data.openpose_only else ("densepose",) if data.densepose_only else (
            "densepose", "openpose")
    return ("keypoints",) if data.task == "face" else ("labels",)


def frame_geometry(files: FrameFiles, data: DataConfig, draws: Draws, may_flip: bool) -> Geometry:
    """The geometry of a clip whose first frame is `files`."""
    if data.task == "face":
        box = face.crop_box(files.landmarks, files.size)
        return clip_geometry(files.size, data, draws, may_flip, box)
    if data.task == "pose":
        return central_half(clip_geometry(files.size, data, draws, may_flip=False))
    return clip_geometry(files.size, data, draws, may_flip)


def draw_input(files: FrameFiles, data: DataConfig, geometry: Geometry, rng: np.random.Generator | None) -> np.ndarray:
    """(C, H, W) uint8 of one frame: (1 | 3) ids or RGB, (1 | 15) of a face, (3 | 6) of bodies.

    `rng` gives the random numbers of this frame in training; None is generation: nothing is left out, and
    `data.random_scale_points` changes the face.
    """
    if data.task == "face":
        return _draw_face(files, data, geometry, rescale=data.random_scale_points and rng is None)
    if data.task == "pose":
        return _draw_bodies(files, data, geometry, rng)
    return _cut_labels(files, data, geometry)


def draw_parts(files: FrameFiles, geometry: Geometry) -> np.ndarray:
    """(1, H, W) uint8 part labels of a face, 0 elsewhere; `data.random_scale_points` leaves them as they are."""
    return geometry.apply_nearest(Image.fromarray(face.part_labels(face.completed(files.landmarks), files.size)))


def _cut_labels(files: FrameFiles, data: DataConfig, geometry: Geometry) -> np.ndarray:
    """A label map or an RGB frame, checked for what its index may hide."""
    image = files.picture("labels")
    if (image.mode == "RGB") == bool(data.label_nc):
        kinds = "RGB among label maps of one channel" if image.mode == "RGB" else "one channel among RGB frames"
        raise UserError(f"{files.where('labels')}: {kinds}: pack the shards again")
    array = geometry.apply(image)
    if data.label_nc and array.max() >= data.label_nc:
        raise UserError(f"{files.where('labels')}: label id {array.max()} is not below data.label_nc={data.label_nc}, "
                        "and its index hides it: pack the shards again")
    return array


def _draw_face(files: FrameFiles, data: DataConfig, geometry: Geometry, rescale: bool) -> np.ndarray:
    points = face.completed(files.landmarks)
    drawn = face.draw_edges(face.rescaled(points) if rescale else points, files.size, not data.no_dist_map)
    if not data.no_canny_edge:
        # Added with the wrap-around of 8 bits, as in the original: an edge on a drawn one stays bright.
        drawn[0] += face.background_edges(np.asarray(files.image.convert("L")), face.part_labels(points, files.size))
    return geometry.apply_maps(drawn)


def _draw_bodies(files: FrameFiles, data: DataConfig, geometry: Geometry, rng: np.random.Generator | None
                 ) -> np.ndarray:
    drop = 0.0 if rng is None else data.random_drop_prob
    # All numbers are drawn, whatever is used: an option leaves the other numbers as they are.
    kept = np.ones(N_PARTS, bool) if rng is None else rng.random(N_PARTS) > drop
    drawn = []
    if not data.openpose_only:
        hidden = {part for part in range(1, N_PARTS + 1) if not kept[part - 1]}
        if data.remove_face_labels and rng is not None:
            hidden.update(HEAD_PARTS)
        drawn.append(without_parts(np.asarray(files.picture("densepose")), hidden))
    if not data.densepose_only:
        blur_head = data.remove_face_labels and drop > 0
        draws = [openpose.NOTHING_DROPPED if rng is None else openpose.PersonDraws.draw(rng, blur_head)
                 for _ in files.people]
        lines = openpose.draw_people(files.people, files.size, draws, drop, data.basic_point_only)
        drawn.append(lines.transpose(1, 2, 0))
    return np.concatenate([geometry.apply_nearest(Image.fromarray(np.ascontiguousarray(x))) for x in drawn])


def without_parts(dense: np.ndarray, hidden: set[int]) -> np.ndarray:
    """A DensePose picture (H, W, 3) with some parts blank."""
    blank = np.isin(np.arange(256), list(hidden))[dense[..., PART_CHANNEL]]
    return np.where(blank[..., None], 0, dense).astype(np.uint8)
