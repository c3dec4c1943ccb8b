"""The files of one frame in the shards.

Shards hold landmarks and poses as they are, some kilobytes a frame; they are drawn when a frame is decoded, since
the crop and what is left out differ from clip to clip. Drawn frames stay 8 bit until `network_input`.
"""

from typing import Any

from PIL import Image

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.geometry import Draws, Geometry, Size
from vid2vid_dist.data.index import ShardIndex
from vid2vid_dist.data.tasks.registry import task_of


class FrameFiles:
    """The files of one frame in the shards, each read and decoded once and only when asked for."""

    def __init__(self, index: ShardIndex, video: int, frame: int) -> None:
        self._index, self._video, self.frame = index, video, frame
        self.size: Size = index.videos[video].size
        self._contents: dict[str, Any] = {}

    def where(self, modality: str) -> str:
        return self._index.where(self._video, modality, self.frame)

    def content(self, modality: str) -> Any:
        """What `Modality.read` makes of a file."""
        if modality not in self._contents:
            film, where = self._index.film(self._video, modality), self.where(modality)
            if film is not None:
                self._contents[modality] = self._index.films.frame(film, self.frame, where)
            else:
                data = self._index.read(self._video, modality, self.frame)
                self._contents[modality] = self._index.task.modalities[modality].read(data, where, self.size)
        return self._contents[modality]

    def picture(self, modality: str) -> Image.Image:
        """The same of a modality that is an image."""
        image = self.content(modality)
        assert isinstance(image, Image.Image)
        return image


def frame_geometry(files: FrameFiles, data: DataConfig, draws: Draws, may_flip: bool) -> Geometry:
    """The geometry of a clip whose first frame is `files`."""
    task = task_of(data)
    return task.geometry(files.size, data, draws, may_flip, task.box and task.box(files))
