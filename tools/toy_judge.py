"""A small network that judges frames of the toy street: trained here, in seconds, to see what stands in which part of
a frame. Its figures compare frames of this set with each other, and with nothing published."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource, Request

NAME = "toy network"
WIDTHS = (24, 48, 64, 64)
N_STEPS, BATCH, LR = 300, 16, 2e-3


class ToyNetwork(nn.Module):
    """Each layer halves the frame; what is learnt are the shares of the classes in cells of 16x16 pixels.

    Features are scaled by their spread over the frames of the training: else a few large ones say all.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(n_in, n_out, 4, stride=2, padding=1)
                                    for n_in, n_out in zip((3, *WIDTHS), WIDTHS, strict=False))
        self.head = nn.Conv2d(WIDTHS[-1], n_classes, 1)
        self.register_buffer("mean", torch.zeros(sum(WIDTHS)))
        self.register_buffer("spread", torch.ones(sum(WIDTHS)))

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Of frames (N, 3, H, W) in 0..255 what every layer gives."""
        x, found = pixels / 127.5 - 1, []
        for layer in self.layers:
            x = F.relu(layer(x))
            found.append(x)
        return found

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Of frames (N, 3, H, W) in 0..255 the features (N, d): the mean of every map of every layer."""
        return (torch.cat([maps.mean((2, 3)) for maps in self.maps(pixels)], dim=1) - self.mean) / self.spread


def toy_network(cfg: Config, file: Path) -> ToyNetwork:
    """The network for frames as `cfg` reads them: from the file, or trained on its training split and written there."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = ToyNetwork(cfg.data.label_nc)
        if file.is_file():
            network.load_state_dict(load_file(file))
        else:
            _train(network, *_frames(cfg, "train"))
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file(network.state_dict(), file)
    return network.requires_grad_(False)


def share_right(network: ToyNetwork, cfg: Config) -> float:
    """In how many cells of the test frames, 0..1, the most frequent class is seen."""
    pixels, shares = _frames(cfg, "test")
    with torch.no_grad():
        seen = network.head(network.maps(pixels)[-1]).argmax(1)
    return float((seen == shares.argmax(1)).float().mean())


def error_of_the_mean_frame(cfg: Config) -> float:
    """L1 in [-1, 1] of the mean training frame to the test frames: a network that does no better has learnt nothing."""
    (train, _), (test, _) = _frames(cfg, "train"), _frames(cfg, "test")
    return float((test - train.mean(0)).abs().mean() / 127.5)


def _train(network: ToyNetwork, pixels: Tensor, shares: Tensor) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    for _ in range(N_STEPS):
        batch = torch.randint(len(pixels), (BATCH,))
        loss = F.cross_entropy(network.head(network.maps(pixels[batch])[-1]), shares[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features = network(pixels)
    network.mean.copy_(features.mean(0))
    network.spread.copy_(features.std(0).clamp(min=1e-3))


def _frames(cfg: Config, split: str) -> tuple[Tensor, Tensor]:
    """Frames (N, 3, H, W) in 0..255, and the shares (N, classes, H/16, W/16) of the classes in their cells."""
    source = ClipSource.of(cfg, split)
    pixels, shares = [], []
    for clip in map(source.whole, range(source.n_videos)):
        frames = source.load(Request.span(clip, 0, clip.n_frames))
        assert frames.images is not None
        classes = F.one_hot(frames.labels[:, 0].long(), cfg.data.label_nc).permute(0, 3, 1, 2).float()
        pixels.append(frames.images.float())
        shares.append(F.avg_pool2d(classes, 2 ** len(WIDTHS)))
    return torch.cat(pixels), torch.cat(shares)
