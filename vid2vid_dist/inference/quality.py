"""How good generated frames are: against the real ones, one by one and as a set, and by what their labels say.

The networks that judge come from files, and a figure without its file is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from vid2vid_dist.errors import UserError
from vid2vid_dist.inference._torchmetrics import (
    LPIPS,
    FeatureExtractorInceptionV3,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)
from vid2vid_dist.inference.distances import frechet_distance, kernel_distance
from vid2vid_dist.inference.figures import SetFigure
from vid2vid_dist.inference.segmentation import NETWORKS, Confusion, SegmentationNetwork, load_segmentation
from vid2vid_dist.models.weights import load_published, load_script

HIGHEST_PSNR = 100.0  # dB; of equal frames it would be infinite
CLIP = 16  # frames that the video network sees, as in published figures
STRIDE = 8  # frames between the beginnings of two clips
FIX = "`python -m vid2vid_dist weights` fetches it into weights/, or leave the option out"

Features = Callable[[Tensor], Tensor]
"""Frames (N, 3, H, W), or clips (N, 3, T, H, W), whole numbers 0..255, to features (N, d)."""


@dataclass(frozen=True)
class WeightFiles:
    """Files of the networks that some figures need; empty = without them."""

    lpips: str = ""  # torchvision's AlexNet
    fid: str = ""  # torch-fidelity's InceptionV3
    fvd: str = ""  # I3D as TorchScript
    segmentation: str = ""  # of `segmentation_network`
    segmentation_network: str = NETWORKS[0]
    segmentation_ids: Sequence[int] = ()  # the label id of each class; empty = class and id are one


@dataclass(frozen=True)
class Judges:
    """The networks that judge, each loaded once for however many runs. Without one its figures are left out."""

    lpips: nn.Module | None = None
    frames: Features | None = None
    frames_name: str = ""  # that their figures carry
    clips: Features | None = None
    segmentation: SegmentationNetwork | None = None
    segmentation_ids: Sequence[int] = ()  # the label id of each class

    @classmethod
    def load(cls, files: WeightFiles, label_nc: int) -> Judges:
        """`label_nc`: labels of the models that are judged. Raises `UserError` for files that are missing or hold
        another network, and for a segmentation of what has no labels."""
        if files.segmentation and not label_nc:
            raise UserError("--segmentation-weights compares with label maps, and this model reads none: leave it out")
        return cls(
            lpips=_load_lpips(files.lpips) if files.lpips else None,
            frames=_load_inception(files.fid) if files.fid else None,
            clips=load_i3d(files.fvd) if files.fvd else None,
            segmentation=load_segmentation(Path(files.segmentation), files.segmentation_network, "--segmentation-")
            if files.segmentation else None,
            segmentation_ids=files.segmentation_ids or range(label_nc))


@torch.no_grad()
def frame_figures(judges: Judges, fake: Tensor, real: Tensor) -> dict[str, float]:
    """L1, PSNR (dB), SSIM and, with its network, LPIPS of a frame, both (1, 3, H, W) in [-1, 1]."""
    similarity = structural_similarity_index_measure(fake, real, data_range=2.0)
    assert isinstance(similarity, Tensor)
    figures = {
        "L1": (fake - real).abs().mean(),
        "PSNR": peak_signal_noise_ratio(fake, real, data_range=2.0).clamp(max=HIGHEST_PSNR),
        "SSIM": similarity,
    }
    if judges.lpips is not None:
        figures["LPIPS"] = judges.lpips(fake, real).mean()
    return {name: float(value) for name, value in figures.items()}


class SetQuality(Protocol):
    """Collects frames for figures of all of them together."""

    def begin_video(self) -> None:
        """What follows is another video."""

    def add(self, fake: Tensor, real: Tensor | None, labels: Tensor) -> None:
        """Take the next frame into account, both (1, 3, H, W) in [-1, 1]; labels (1, 1, H, W), as decoded."""

    def figures(self) -> dict[str, SetFigure]:
        """By name, those that there are enough frames for."""


class FrameDistances:
    """FID and KID. With fewer frames than features FID is biased upwards, and comparable at equal numbers only; KID is
    not biased."""

    def __init__(self, features: Features, name: str) -> None:
        self._features, self._name = features, f" ({name})" if name else ""
        self._real: list[Tensor] = []
        self._fake: list[Tensor] = []

    def begin_video(self) -> None:
        pass

    def add(self, fake: Tensor, real: Tensor | None, labels: Tensor) -> None:
        if real is not None:
            self._size = size_of(fake)
            self._real.append(self._features(_pixels(real)))
            self._fake.append(self._features(_pixels(fake)))

    def figures(self) -> dict[str, SetFigure]:
        if len(self._real) < 2:
            return {}
        real, fake = torch.cat(self._real), torch.cat(self._fake)
        over, kernel = f"{len(fake)} frames, {self._size}", kernel_distance(real, fake)
        subsets = ("one set" if kernel.n_subsets == 1 else
                   f"{kernel.n_subsets} subsets of {kernel.size}, deviation {kernel.deviation:.2g}")
        return {f"FID{self._name}": SetFigure(frechet_distance(real, fake), f"{over}; {real.shape[1]} features"),
                f"KID{self._name}": SetFigure(kernel.mean, f"{over}; {subsets}")}


class ClipDistance:
    """FVD, of clips that lie within one video. With fewer clips than features it is biased as FID is."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._real: list[Tensor] = []
        self._fake: list[Tensor] = []

    def begin_video(self) -> None:
        self._clip: deque[tuple[Tensor, Tensor]] = deque(maxlen=CLIP)
        self._number = 0

    def add(self, fake: Tensor, real: Tensor | None, labels: Tensor) -> None:
        if real is not None:
            self._size = size_of(fake)
            self._clip.append((_pixels(real), _pixels(fake)))
            self._number += 1
            if self._number >= CLIP and (self._number - CLIP) % STRIDE == 0:
                for found, frames in zip((self._real, self._fake), zip(*self._clip, strict=True), strict=True):
                    found.append(self._features(torch.stack(frames, dim=2)))

    def figures(self) -> dict[str, SetFigure]:
        if len(self._real) < 2:
            return {}
        over = f"{len(self._fake)} clips of {CLIP} frames, one every {STRIDE}, {self._size}"
        return {"FVD": SetFigure(frechet_distance(torch.cat(self._real), torch.cat(self._fake)), over)}


class LabelAgreement:
    """How far a segmentation network sees in the frames what their labels say; in the real ones too, which is what can
    be reached."""

    def __init__(self, network: SegmentationNetwork, ids: Sequence[int]) -> None:
        self._network, self._ids = network, ids
        self._of: dict[str, Confusion] = {}

    def begin_video(self) -> None:
        pass

    def add(self, fake: Tensor, real: Tensor | None, labels: Tensor) -> None:
        self._size = size_of(fake)
        for name, frames in (("", fake), (" of the real", real)):
            if frames is not None:
                seen = self._network(frames)
                if self._network.n_classes != len(self._ids):
                    raise UserError(f"the segmentation network has {self._network.n_classes} classes, but "
                                    f"{len(self._ids)} label ids stand for classes: name one label id for each class "
                                    "with --segmentation-ids")
                self._of.setdefault(name, Confusion(self._ids)).add(labels[:, 0], seen)

    def figures(self) -> dict[str, SetFigure]:
        figures = {}
        for name, confusion in self._of.items():
            over, better = f"{confusion.n_frames} frames, {self._size}; {confusion.told}", "" if name else "high"
            figures[f"mIoU{name}"] = SetFigure(confusion.mean_iou(), over, better)
            figures[f"pixel accuracy{name}"] = SetFigure(confusion.accuracy(), over, better)
        return figures


def set_qualities(judges: Judges) -> list[SetQuality]:
    """What the networks at hand give, with nothing collected yet."""
    found: list[SetQuality] = []
    if judges.frames is not None:
        found.append(FrameDistances(judges.frames, judges.frames_name))
    if judges.clips is not None:
        found.append(ClipDistance(judges.clips))
    if judges.segmentation is not None:
        found.append(LabelAgreement(judges.segmentation, judges.segmentation_ids))
    return found


def size_of(frames: Tensor) -> str:
    """Width and height, as text."""
    return f"{frames.shape[-1]}x{frames.shape[-2]}"


def _pixels(frames: Tensor) -> Tensor:
    """Frames in [-1, 1] as whole numbers 0..255."""
    return ((frames + 1) * 127.5).round().clamp(0, 255)


def _load_lpips(path: str) -> nn.Module:
    """LPIPS on AlexNet; its few own weights come with torchmetrics."""
    network = LPIPS(net="alex", pnet_rand=True)
    slices = [getattr(network.net, f"slice{i}") for i in range(1, 6)]
    layers = nn.ModuleDict({index: layer for part in slices for index, layer in part.named_children()})
    load_published(layers, path, f"--lpips-weights wants torchvision's AlexNet: {FIX}", prefix="features.")
    return network.eval()


def _load_inception(path: str) -> Features:
    """The pooled features, (N, 2048), of the network, and with the resizing, that published FID and KID are of."""
    fix = f"--fid-weights wants torch-fidelity's InceptionV3: {FIX}"
    # First read as tensors and nothing else: torch-fidelity would run whatever is pickled in the file.
    load_published(nn.Module(), path, fix, prefix="nothing of it")
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048"], path)
    except RuntimeError:
        raise UserError(f"{path} holds the weights of another network: {fix}") from None
    return torch.no_grad()(lambda frames: network(frames.byte())[0])


def load_i3d(path: str) -> Features:
    """The scores, (N, 400), that published FVD is of; the network scales frames to 224x224 itself."""
    fix = f"--fvd-weights wants the I3D of published figures, i3d_torchscript.pt: {FIX}"
    network, wanted = load_script(path, fix), ("rescale", "resize", "return_features")
    if not {*wanted} <= {argument.name for argument in cast(Any, network.forward).schema.arguments}:
        raise UserError(f"{path} holds another network: {fix}")
    return torch.no_grad()(lambda clips: network(clips, **dict.fromkeys(wanted, True)))
