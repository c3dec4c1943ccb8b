"""Image-only generators that make the first frame of a video (pix2pixHD; spec: networks 6).

They read the encoded labels of one frame and know no past. All use instance norm.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from vid2vid_dist.config.schema import GeneratorConfig
from vid2vid_dist.models.blocks import channel_widths, conv7, decoder, encoder, halve, init_weights, resnet_blocks
from vid2vid_dist.models.compiling import compilable
from vid2vid_dist.models.composite import ScaleGenerator
from vid2vid_dist.models.compute_options import laid_out
from vid2vid_dist.models.labels import EncodedLabels

NORM = "instance"
MAX_CHANNELS = 1024


class ImageGenerator(nn.Module):
    """Encoder, residual blocks, decoder: pix2pixHD's global generator. With local enhancers it works at reduced size,
    and finer networks refine its features, one per doubling."""

    def __init__(self, in_channels: int, ngf: int, n_downsample: int, n_blocks: int, n_local_enhancers: int = 0,
                 n_blocks_local: int = 0) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.size_unit = 2 ** (n_downsample + n_local_enhancers)
        self.n_local_enhancers = n_local_enhancers
        coarse = ngf * 2**n_local_enhancers
        self.model = finest = nn.Sequential(
            *encoder(in_channels, coarse, n_downsample, NORM, MAX_CHANNELS),
            *resnet_blocks(channel_widths(coarse, n_downsample, MAX_CHANNELS)[-1], n_blocks, NORM),
            *decoder(coarse, n_downsample, NORM, MAX_CHANNELS))
        for level in range(1, n_local_enhancers + 1):
            width = ngf * 2 ** (n_local_enhancers - level)
            self.add_module(f"model{level}_1", nn.Sequential(*encoder(in_channels, width, 1, NORM)))
            finest = nn.Sequential(*resnet_blocks(2 * width, n_blocks_local, NORM), *decoder(width, 1, NORM))
            self.add_module(f"model{level}_2", finest)
        finest.extend([*conv7(ngf, 3), nn.Tanh()])
        init_weights(self)

    def forward(self, labels: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 3, H, W) in [-1, 1]; sides must be multiples of `size_unit`."""
        levels = [labels]
        for _ in range(self.n_local_enhancers):
            levels.insert(0, halve(levels[0]))
        out = self.model(levels[0])
        for level in range(1, self.n_local_enhancers + 1):
            encode, refine = self.get_submodule(f"model{level}_1"), self.get_submodule(f"model{level}_2")
            out = refine(encode(levels[level]) + out)
        return out


def network_of(weights: Mapping[str, Tensor]) -> ImageGenerator:
    """The network without data (device meta) that these weights belong to: names and shapes tell all of it.

    Raises `ValueError` for weights of anything else.
    """
    def count(prefix: str, pattern: str) -> int:
        return len({match[1] for name in weights if (match := re.fullmatch(rf"{prefix}(\d+){pattern}", name))})

    if "model.1.weight" not in weights:
        raise ValueError("no single-image generator: model.1.weight is missing")
    n_blocks = count(r"model\.", r"\.conv_block\.1\.weight")
    # Convolutions beside the blocks: the stem, n_downsample each way, and, with local enhancers cut off, the last.
    n_levels = count("model", r"_1\.1\.weight")
    n_downsample = (count(r"model\.", r"\.weight") - (1 if n_levels else 2)) // 2
    ngf, in_channels = weights[f"model{n_levels}_1.1.weight" if n_levels else "model.1.weight"].shape[:2]
    n_blocks_local = count(r"model1_2\.", r"\.conv_block\.1\.weight")
    with torch.device("meta"):
        return ImageGenerator(in_channels, ngf, n_downsample, n_blocks, n_levels, n_blocks_local)


class GlobalWithFeatures(nn.Module):
    """A global generator that is also given a feature map, which says how the parts of the image look.

    The features join at the input, twice at the coarsest size, and before the last convolution.
    """

    def __init__(self, in_channels: int, n_features: int, ngf: int, n_downsample: int, n_blocks: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.size_unit = 2**n_downsample
        self.n_downsample = n_downsample
        width = channel_widths(ngf, n_downsample, MAX_CHANNELS)[-1]
        self.model_downsample = nn.Sequential(*encoder(in_channels + n_features, ngf, n_downsample, NORM, MAX_CHANNELS))
        self.model_resnet = nn.Sequential(*resnet_blocks(width + n_features, n_blocks, NORM))
        self.model_upsample = nn.Sequential(
            *decoder(ngf, n_downsample, NORM, MAX_CHANNELS, in_channels=width + 2 * n_features))
        self.model_upsample_conv = nn.Sequential(*conv7(ngf + n_features, 3), nn.Tanh())
        init_weights(self)

    def forward(self, labels_and_features: Tensor) -> Tensor:
        """Labels and, after them, features (N, C + n_features, H, W) to (N, 3, H, W) in [-1, 1]."""
        features = coarse = labels_and_features[:, self.in_channels :]
        for _ in range(self.n_downsample):
            coarse = halve(coarse)
        x = self.model_downsample(labels_and_features)
        x = self.model_resnet(torch.cat([x, coarse], dim=1))
        x = self.model_upsample(torch.cat([x, coarse], dim=1))
        return self.model_upsample_conv(torch.cat([x, features], dim=1))


class ImageNetwork(ScaleGenerator):
    """A single-image generator in the place of a video generator's only scale, so that it is trained like one.

    Of the label frames that it is given it sees the newest, and nothing of the frames before.
    """

    def __init__(self, cfg: GeneratorConfig, label_channels: int) -> None:
        super().__init__(cfg, scale=0)
        sizes = cfg.ngf, cfg.n_downsample_G, cfg.n_blocks
        self.net: ImageGenerator | GlobalWithFeatures
        if cfg.style_nc:
            self.net = GlobalWithFeatures(label_channels, cfg.style_nc, *sizes)
        elif cfg.netG == "global":
            self.net = ImageGenerator(label_channels, *sizes)
        else:
            self.net = ImageGenerator(label_channels, *sizes, cfg.n_local_enhancers, cfg.n_blocks_local)

    def label_branch(self, labels: EncodedLabels) -> Tensor:
        """The newest frame's labels as they are, and after them its style if there is one: (B, C + S, H, W)."""
        dense = replace(labels, style=None).frames(slice(-1, None)).dense()[:, 0]
        return dense if labels.style is None else torch.cat([dense, labels.style], dim=1)

    def encode_past(self, label_features: Tensor, previous: Tensor) -> Tensor:
        """`label_features`: nothing is known of the past."""
        return label_features

    @compilable
    def image_branch(self, trunk: Tensor, coarse: Tensor | None = None,
                     labels: EncodedLabels | None = None) -> tuple[Tensor, Tensor]:
        """One image (B, 3, H, W) in [-1, 1] from `label_branch`."""
        image = self._stage(laid_out(trunk, self.compute_options), self.net).contiguous()
        return image, image
