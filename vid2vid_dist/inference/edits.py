"""Changes to the labels that a video is generated from: trees become buildings, one car becomes a truck."""

from dataclasses import dataclass

import torch

from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.errors import UserError

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LabelEdit:
    """`classes`: label id to the one that it becomes; `instances`: instance id to the label that it gets.

    All of them happen at once, those of instances on top.
    """

    classes: Pairs = ()
    instances: Pairs = ()

    def __bool__(self) -> bool:
        return bool(self.classes or self.instances)

    def check(self, data: DataConfig) -> None:
        """Raise `UserError` for a model that this edit means nothing to."""
        if not self:
            return
        if not data.label_nc:
            raise UserError("--remap and --relabel-instance need a model that reads label maps (data.label_nc > 0)")
        for label in [*(label for pair in self.classes for label in pair), *(label for _, label in self.instances)]:
            if not 0 <= label < data.label_nc:
                raise UserError(f"label {label} of an edit is not in 0..{data.label_nc - 1} (data.label_nc): "
                                "choose one of these")
        if self.instances and not data.use_instance:
            raise UserError("--relabel-instance needs a model that reads instance maps (data.use_instance)")

    def apply(self, frames: Frames) -> Frames:
        """The edited frames; `frames` stay as they are.

        Regions without instances carry their label as instance id (Cityscapes): they take the new one, so that no
        edge is left between what are now parts of one region.
        """
        labels, instances = frames.labels.clone(), frames.instances
        if instances is not None:
            instances = instances.clone()
        for old, new in self.classes:
            labels[frames.labels == old] = new
            if frames.instances is not None and instances is not None:
                instances[frames.instances == old] = new
        for number, label in self.instances:
            assert frames.instances is not None
            labels[frames.instances == number] = label
        return Frames(labels, frames.images, instances, frames.names)

    def changed(self, frames: Frames) -> torch.Tensor:
        """(F, 1, H, W) bool: the pixels that get another label."""
        return self.apply(frames).labels != frames.labels

    def __str__(self) -> str:
        words = [f"label {old} becomes {new}" for old, new in self.classes]
        return ", ".join([*words, *(f"instance {number} becomes label {label}" for number, label in self.instances)])


NO_EDIT = LabelEdit()
