"""Segmentation networks by path: torchvision's, or any as TorchScript; and whether generated frames show what their
labels say."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vid2vid_dist.errors import UserError
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.weights import load_published, load_script, read_tensors

SCRIPT = "torchscript"
# With weights at torchvision, or of the user's own by its training script.
NETWORKS = ("deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large", "fcn_resnet50",
            "fcn_resnet101", "lraspp_mobilenet_v3_large", SCRIPT)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of the colours that torchvision's networks were trained with."""
CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label ids of Cityscapes' 19 classes that are judged; all others are left out."""


class SegmentationNetwork(nn.Module):
    """Scores of classes. The network gives them, (N, classes, h, w), by themselves or as the "out" of a dict.

    `n_classes` is known once it has seen a frame.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.n_classes = network, 0
        for name, values in zip(("mean", "std"), IMAGENET, strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Classes (N, H, W) of frames (N, 3, H, W) in [-1, 1], which the network sees as ImageNet's are normalised."""
        out = self.network(((frames + 1) / 2 - self.mean) / self.std)
        scores = out["out"] if isinstance(out, dict) else out
        if scores.ndim != 4:
            raise UserError(f"the network gives {tuple(scores.shape)} for a frame: give a segmentation network, "
                            "whose scores are (1, classes, h, w)")
        self.n_classes = scores.shape[1]
        if scores.shape[-2:] != frames.shape[-2:]:
            scores = F.interpolate(scores, frames.shape[-2:], mode="bilinear")
        return scores.argmax(1)


def load_segmentation(weights: Path, name: str, option: str = "--") -> SegmentationNetwork:
    """A segmentation network of torchvision with as many classes as the weights have, or a TorchScript file.

    Raises `UserError` for a file that is missing or holds another network; `option` begins the names of the options
    that file and network come from.
    """
    if name == SCRIPT:
        return SegmentationNetwork(load_script(str(weights), f"{option}weights wants a network that torch.jit.save "
                                                             f"wrote, or {option}network torchvision's name of it"))
    aux, n_classes, fix = False, 21, f"{option}weights wants torchvision's {name}, or {option}network another"
    with suppress(OSError, ValueError):  # what is wrong is said when they are loaded
        tensors = read_tensors(weights)
        heads = [value for key, value in tensors.items() if re.fullmatch(r"classifier\..*weight", key)]
        n_classes = heads[-1].shape[0] if heads else n_classes
        aux = any(key.startswith("aux_classifier.") for key in tensors)
    options = {} if name.startswith("lraspp") else {"aux_loss": aux}
    network = getattr(models.segmentation, name)(
        weights=None, weights_backbone=None, num_classes=n_classes, **options)
    load_published(network, str(weights), fix)
    return SegmentationNetwork(network.eval())


class Confusion:
    """Counts the pixels of frames by the class that their label stands for and the one that a network sees."""

    def __init__(self, ids: Sequence[int]) -> None:
        """`ids`: of each class of the network the label id; labels that are none of them are left out."""
        self._class_of = torch.full((256,), -1)
        self._class_of[list(ids)] = torch.arange(len(ids))
        self._counts = torch.zeros(len(ids), len(ids), dtype=torch.int64)
        self.n_frames = 0

    @property
    def told(self) -> str:
        """What has been compared."""
        return f"{len(self._counts)} classes, {int(self._counts.sum())} pixels"

    def add(self, labels: Tensor, seen: Tensor) -> None:
        """Label ids (N, H, W) uint8 and classes (N, H, W) of the same pixels."""
        wanted, n = self._class_of[labels.long()], len(self._counts)
        there = wanted >= 0
        self._counts += torch.bincount(wanted[there] * n + seen[there], minlength=n * n).view(n, n)
        self.n_frames += len(labels)

    def accuracy(self) -> float:
        """Of the pixels."""
        return float(self._counts.diagonal().sum() / self._counts.sum())

    def mean_iou(self) -> float:
        """Mean over the classes that are there or seen of intersection over union."""
        both = self._counts.diagonal()
        union = self._counts.sum(0) + self._counts.sum(1) - both
        return float((both[union > 0] / union[union > 0]).mean())
