"""Instance-wise feature encoder: how each part of a real image looks, in a few numbers (spec: networks 6)."""

from torch import Tensor, nn

from vid2vid_dist.models.blocks import conv7, decoder, encoder, init_weights


class FeatureEncoder(nn.Module):
    """An image to features of every pixel, of which means over regions are taken (`regions`)."""

    def __init__(self, n_features: int, ngf: int = 16, n_downsample: int = 4) -> None:
        super().__init__()
        self.n_features = n_features
        self.model = nn.Sequential(
            *encoder(3, ngf, n_downsample, "instance"), *decoder(ngf, n_downsample, "instance"),
            *conv7(ngf, n_features), nn.Tanh())
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to features (N, n_features, H, W) in [-1, 1]."""
        return self.model(images)
