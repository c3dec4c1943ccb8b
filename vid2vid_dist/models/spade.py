"""Normalisation modulated by labels (Park et al. 2019): what a layer normalises, the labels scale and shift again.

In decoders and residual trunks, which otherwise know of the labels only what has come through the encoder.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vid2vid_dist.models.blocks import BatchNorm, ResnetBlock
from vid2vid_dist.models.labels import EncodedLabels, one_hot

MAX_HIDDEN = 128  # channels between labels and factors, as published


class Spade(nn.Module):
    """Batch normalisation without weights; factor and offset of every pixel are read off the newest frame's labels."""

    def __init__(self, channels: int, label_channels: int) -> None:
        super().__init__()
        hidden = min(MAX_HIDDEN, channels)
        self.norm = BatchNorm(channels, affine=False)
        self.shared = nn.Conv2d(label_channels, hidden, 3, padding=1)
        self.gamma_beta = nn.Conv2d(hidden, 2 * channels, 3, padding=1)

    def forward(self, x: Tensor, labels: EncodedLabels) -> Tensor:
        """(B, C, h, w), and labels of any size."""
        hidden = F.relu(self.shared(newest_at(labels, x.shape[-2], x.shape[-1])))
        gamma, beta = self.gamma_beta(hidden).chunk(2, dim=1)
        return torch.addcmul(beta, self.norm(x), 1 + gamma)


def modulate(stack: nn.Module, label_channels: int) -> None:
    """Put a `Spade` in the place of every batch norm of `stack`, which is changed."""
    for module in list(stack.modules()):
        for name, child in module.named_children():
            if isinstance(child, BatchNorm):
                setattr(module, name, Spade(child.num_features, label_channels))


def through(stack: nn.Module, x: Tensor, labels: EncodedLabels) -> Tensor:
    """`stack(x)` for layers of which some read the labels."""
    for layer in stack if isinstance(stack, nn.Sequential) else (stack,):
        if isinstance(layer, ResnetBlock):
            x = x + through(layer.conv_block, x, labels)
        else:
            x = layer(x, labels) if isinstance(layer, Spade) else layer(x)
    return x


def newest_at(labels: EncodedLabels, height: int, width: int) -> Tensor:
    """One-hot classes, planes and style of a window's newest frame, (B, C, height, width): its nearest pixels."""
    def nearest(x: Tensor) -> Tensor:
        rows, columns = (torch.arange(n, device=x.device) * side // n
                         for n, side in ((height, x.shape[-2]), (width, x.shape[-1])))
        return x[..., rows[:, None], columns]

    planes = nearest(labels.planes[:, -1])
    style = [] if labels.style is None else [nearest(labels.style)]
    if labels.ids is None:
        return torch.cat([planes, *style], dim=1)
    classes = one_hot(nearest(labels.ids[:, -1]), labels.n_classes, planes.dtype)
    return torch.cat([classes, planes, *style], dim=1)
