"""Multi-scale patch discriminators for images, frame groups and faces (spec: networks 7)."""

from itertools import chain

import torch
from torch import Tensor, nn

from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.blocks import halve, init_weights, norm_layer
from vid2vid_dist.models.compiling import compilable
from vid2vid_dist.models.convolution import MinimalConv
from vid2vid_dist.models.spectral import spectrally_normalised


def patch_layers(in_channels: int, ndf: int, n_layers: int, norm: str) -> list[list[nn.Module]]:
    """The layers of one patch discriminator, input to score map, as lists of modules.

    Padding 2 under a 4x4 kernel: a layer of stride 2 maps n to n // 2 + 1, one of stride 1 to n + 1.
    """
    def relu() -> nn.Module:
        return nn.LeakyReLU(0.2, inplace=True)  # in place: a quarter of the activations need not be kept

    layers: list[list[nn.Module]] = [[nn.Conv2d(in_channels, ndf, 4, stride=2, padding=2), relu()]]
    width = ndf
    for layer in range(1, n_layers + 1):
        narrow, width = width, min(2 * width, 512)
        conv = (nn.Conv2d(narrow, width, 4, stride=2, padding=2) if layer < n_layers
                else MinimalConv(narrow, width, 4, padding=2))
        layers.append([conv, norm_layer(norm, width), relu()])
    layers.append([nn.Conv2d(width, 1, 4, stride=1, padding=2)])
    return layers


class MultiscaleDiscriminator(nn.Module):
    """`num_D` patch discriminators over an image pyramid.

    Parameter names count from the coarsest scale, so that one more scale leaves each network at the absolute
    resolution that it was trained at. With `features`, the outputs of all layers are returned. `strength`: how often
    what it sees is augmented, where that adapts.
    """

    strength: nn.Parameter | None

    def __init__(self, in_channels: int, ndf: int, n_layers: int, num_D: int, norm: str, features: bool) -> None:
        super().__init__()
        self.num_D = num_D
        self.n_layers = n_layers
        self.features = features
        self.register_parameter("strength", None)
        for scale in range(num_D):
            layers = patch_layers(in_channels, min(64, ndf * 2 ** (num_D - 1 - scale)), n_layers, norm)
            if features:
                for index, layer in enumerate(layers):
                    self.add_module(f"scale{scale}_layer{index}", nn.Sequential(*layer))
            else:
                self.add_module(f"layer{scale}", nn.Sequential(*chain.from_iterable(layers)))
        init_weights(self)

    @compilable
    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """(N, C, H, W) to one list per scale, finest first: the outputs of all layers, or of the last alone.

        The last entry of a scale is its score map (N, 1, h, w), without an activation. Raises `UserError` for frames
        that are less than 2 pixels wide or high at the coarsest scale.
        """
        height, width = x.shape[-2:]
        if min(height, width) <= 2 ** (self.num_D - 1):  # halving rounds up
            raise UserError(f"frames of {width}x{height} are too small for a discriminator of {self.num_D} scales: "
                            "lower discriminator.num_D, or raise data.loadSize or data.fineSize")
        outputs = []
        for scale in reversed(range(self.num_D)):
            outputs.append(self._patch_scores(scale, x))
            if scale > 0:
                x = halve(x)
        return outputs

    def _patch_scores(self, scale: int, x: Tensor) -> list[Tensor]:
        if not self.features:
            return [self.get_submodule(f"layer{scale}")(x)]
        outputs = []
        for layer in range(self.n_layers + 2):
            x = self.get_submodule(f"scale{scale}_layer{layer}")(x)
            outputs.append(x)
        return outputs


def image_discriminator(cfg: Config) -> MultiscaleDiscriminator:
    """Judges one frame: encoded labels of the frame, then the image, on the channel axis."""
    return _discriminator(cfg, cfg.label_channels + 3, cfg.discriminator.num_D)


def face_discriminator(cfg: Config) -> MultiscaleDiscriminator:
    """As the image discriminator, on the face crop, with two scales fewer."""
    return _discriminator(cfg, cfg.label_channels + 3, max(1, cfg.discriminator.num_D - 2))


def temporal_discriminator(cfg: Config) -> MultiscaleDiscriminator:
    """Judges n_frames_D frames: their images, oldest first, then the flows between them divided by 20."""
    n_frames = cfg.discriminator.n_frames_D
    return _discriminator(cfg, 3 * n_frames + 2 * (n_frames - 1), cfg.discriminator.num_D)


def _discriminator(cfg: Config, in_channels: int, num_D: int) -> MultiscaleDiscriminator:
    disc = cfg.discriminator
    network = MultiscaleDiscriminator(in_channels, disc.ndf, disc.n_layers_D, num_D, cfg.generator.norm,
                                      features=not cfg.loss.no_ganFeat)
    if disc.augment == "adaptive":
        network.strength = nn.Parameter(torch.zeros(1))
    return spectrally_normalised(network) if disc.spectral_norm else network
