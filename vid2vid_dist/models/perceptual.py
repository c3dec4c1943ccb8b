"""VGG19 features for the perceptual loss (spec: networks 8, losses 3.3)."""

from torch import Tensor, nn
from torch.nn import functional as F

from vid2vid_dist.errors import UserError
from vid2vid_dist.models._torchvision import models
from vid2vid_dist.models.compiling import compilable
from vid2vid_dist.models.weights import load_published

MAX_WIDTH = 1024  # pixels; wider frames are halved first
SLICES = ((0, 2), (2, 7), (7, 12), (12, 21), (21, 30))  # end at relu1_1, relu2_1, relu3_1, relu4_1, relu5_1


class VGG19Features(nn.Module):
    """The frozen convolutional part of VGG19, cut at five activations.

    `features` is the `features` Sequential of torchvision's VGG19, of which the last layers go unused.
    """

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.slices = nn.ModuleList(features[start:end] for start, end in SLICES)
        self.min_side = 2 ** sum(isinstance(module, nn.MaxPool2d) for module in self.modules())
        self.requires_grad_(False)

    @compilable
    def forward(self, x: Tensor) -> list[Tensor]:
        """Five feature maps of (N, 3, H, W) in [-1, 1]; they go in without ImageNet statistics.

        Raises `UserError` for frames too small to be halved four times.
        """
        while x.shape[-1] > MAX_WIDTH:
            x = F.avg_pool2d(x, 2)
        if min(x.shape[-2:]) < self.min_side:
            raise UserError(f"frames of {x.shape[-1]}x{x.shape[-2]} are too small for the perceptual loss: both sides "
                            f"need {self.min_side} pixels; set loss.no_vgg=true or raise data.loadSize, data.fineSize")
        outputs = []
        for part in self.slices:
            x = part(x)
            outputs.append(x)
        return outputs


def load_vgg19(path: str) -> VGG19Features:
    """VGG19 with torchvision's ImageNet weights. Raises `UserError` without a usable file."""
    features = models.vgg.make_layers(models.vgg.cfgs["E"], batch_norm=False)
    fix = "set loss.vgg_weights to torchvision's vgg19-dcbb9e9d.pth, or loss.no_vgg=true"
    load_published(features, path, fix, prefix="features.")
    return VGG19Features(features)
