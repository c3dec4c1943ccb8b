"""How good generated frames are: against the real ones, one by one and as a set.

Metrics and their networks are torchmetrics'; weights come from files, and a metric without its file is left out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vid2vid_dist.errors import UserError
from vid2vid_dist.inference._torchmetrics import (
    LPIPS,
    FrechetInceptionDistance,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.weights import load_published

HIGHEST_PSNR = 100.0  # dB; of equal frames it would be infinite
WINDOW = 16  # frames that the video network sees
STRIDE = 8  # frames between the beginnings of two windows
VIDEO_SIZE = (112, 112)  # pixels; what the video network was trained on
KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
FIX = "`python -m vid2vid_dist weights` fetches it into weights/, or leave the option out"


@dataclass(frozen=True)
class WeightFiles:
    """Files of the networks that some metrics need; empty = without that metric."""

    lpips: str = ""  # torchvision's AlexNet
    fid: str = ""  # torch-fidelity's InceptionV3
    video_fid: str = ""  # torchvision's r3d_18


class FrameQuality:
    """PSNR (dB), SSIM and, with weights, LPIPS of single frames."""

    def __init__(self, files: WeightFiles) -> None:
        self._lpips = _load_lpips(files.lpips) if files.lpips else None

    @torch.no_grad()
    def __call__(self, fake: Tensor, real: Tensor) -> dict[str, float]:
        """Figures of a frame, both (1, 3, H, W) in [-1, 1]."""
        similarity = structural_similarity_index_measure(fake, real, data_range=2.0)
        assert isinstance(similarity, Tensor)
        figures = {
            "L1": (fake - real).abs().mean(),
            "PSNR": peak_signal_noise_ratio(fake, real, data_range=2.0).clamp(max=HIGHEST_PSNR),
            "SSIM": similarity,
        }
        if self._lpips is not None:
            figures["LPIPS"] = self._lpips(fake, real).mean()
        return {name: float(value) for name, value in figures.items()}


class SetQuality:
    """Fréchet distances between all generated and all real frames: FID, and video FID over windows of frames.

    Both need many videos to mean much: with fewer frames than features (2048 and 512) they are biased upwards, and
    only comparable with each other at equal numbers.
    """

    def __init__(self, files: WeightFiles) -> None:
        self._fid = _load_fid(files.fid) if files.fid else None
        self._video_fid = FrechetInceptionDistance(load_video_features(files.video_fid)) if files.video_fid else None

    def begin_video(self) -> None:
        """What follows is another video: no window reaches over from the last one."""
        self._windows: dict[bool, deque[Tensor]] = {real: deque(maxlen=WINDOW) for real in (True, False)}
        self._n_frames = 0

    @torch.no_grad()
    def add(self, fake: Tensor, real: Tensor) -> None:
        """Take the next frame into account, both (1, 3, H, W) in [-1, 1]."""
        self._n_frames += 1
        for is_real, frame in ((True, real), (False, fake)):
            if self._fid is not None:
                self._fid.update(((frame + 1) * 127.5).round().clamp(0, 255).byte(), real=is_real)
            window = self._windows[is_real]
            window.append(frame)
            if self._video_fid is not None and len(window) == WINDOW and (self._n_frames - WINDOW) % STRIDE == 0:
                self._video_fid.update(torch.stack(list(window), dim=1), real=is_real)

    def figures(self) -> dict[str, float]:
        """The distances that there are weights and enough frames for."""
        metrics = {"FID": self._fid, "video FID": self._video_fid}
        return {name: float(metric.compute()) for name, metric in metrics.items()
                if metric is not None and int(metric.real_features_num_samples) > 1}


class VideoFeatures(nn.Module):
    """What torchvision's r3d_18, trained on Kinetics, sees in a window of frames."""

    num_features = 512
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.network = models.video.r3d_18(weights=None)
        self.network.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(KINETICS_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(KINETICS_STD).view(3, 1, 1))

    def forward(self, windows: Tensor) -> Tensor:
        """(N, T, 3, H, W) in [-1, 1] to (N, 512)."""
        frames = F.interpolate(windows.flatten(0, 1), VIDEO_SIZE, mode="bilinear", antialias=True)
        frames = ((frames + 1) / 2 - self.mean) / self.std
        x = frames.unflatten(0, windows.shape[:2]).transpose(1, 2)
        network = self.network
        for layer in (network.stem, network.layer1, network.layer2, network.layer3, network.layer4, network.avgpool):
            x = layer(x)
        return x.flatten(1)


def load_video_features(path: str) -> VideoFeatures:
    features = VideoFeatures()
    load_published(features.network, path, f"--video-fid-weights wants torchvision's r3d_18: {FIX}")
    return features


def _load_lpips(path: str) -> nn.Module:
    """LPIPS on AlexNet; its few own weights come with torchmetrics."""
    network = LPIPS(net="alex", pnet_rand=True)
    slices = [getattr(network.net, f"slice{i}") for i in range(1, 6)]
    layers = nn.ModuleDict({index: layer for part in slices for index, layer in part.named_children()})
    load_published(layers, path, f"--lpips-weights wants torchvision's AlexNet: {FIX}", prefix="features.")
    return network.eval()


def _load_fid(path: str) -> FrechetInceptionDistance:
    fix = f"--fid-weights wants torch-fidelity's InceptionV3: {FIX}"
    # First read as tensors and nothing else: torch-fidelity would run whatever is pickled in the file.
    load_published(nn.Module(), path, fix, prefix="nothing of it")
    try:
        return FrechetInceptionDistance(feature_extractor_weights_path=path)
    except RuntimeError:
        raise UserError(f"{path} holds the weights of another network: {fix}") from None
