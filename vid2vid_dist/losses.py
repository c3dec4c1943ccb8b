"""Every loss term as a pure function of tensors (spec: losses 3).

Frames are (N, C, H, W), all clips and frames of a pass folded into N, and a mean runs over all elements.
Discriminator outputs are lists, one per patch scale and finest first, of lists of layer outputs whose last
entry is the score map. Reductions are computed in float32 at least, whatever the networks run in.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vid2vid_dist.models.labels import Extent
from vid2vid_dist.models.warp import warp

FACE_WEIGHT = 2.0  # of the generator's terms from the face discriminator
FLOW_SCALE = 20.0  # reference flow is divided by this before a temporal discriminator sees it
PERCEPTUAL_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # relu1_1 ... relu5_1

LayerOutputs = list[list[Tensor]]


def gan_loss(outputs: LayerOutputs, real: bool, mode: str = "ls", *, for_generator: bool = False) -> Tensor:
    """Adversarial term, summed over the patch scales.

    `real` says what the outputs are to be taken for: the discriminator is trained with True on real and
    False on fake frames, the generator with True on fake ones. `mode` "ls" is least squares against 1 or 0
    for both. "hinge" is max(0, 1 -+ score) for the discriminator and -score for the generator. "logistic" is the cross
    entropy of sigmoid(score), the generator's not saturating (Goodfellow et al. 2014).
    """
    assert real or not for_generator
    scores = [_wide(scale[-1]) for scale in outputs]
    if mode == "ls":
        wanted = scores[0].new_full((), float(real))
        return add([F.mse_loss(score, wanted.expand_as(score)) for score in scores])
    return add([_score_loss(score, real, mode, for_generator) for score in scores])


def _score_loss(score: Tensor, real: bool, mode: str, for_generator: bool) -> Tensor:
    if mode == "logistic":
        return F.softplus(-score if real else score).mean()
    assert mode == "hinge", mode
    if for_generator:
        return -score.mean()
    return F.relu(1 - score if real else 1 + score).mean()


def r1_penalty(outputs: LayerOutputs, inputs: Tensor, colours: slice, gamma: float) -> Tensor:
    """R1 (Mescheder et al. 2018): gamma / 2 times the squared gradient of the score to some channels of `inputs`
    (N, C, H, W), averaged over N. The score: means over patches, summed over the patch scales."""
    score = torch.stack([_wide(scale[-1]).mean(dim=(1, 2, 3)).sum() for scale in outputs]).sum()
    (gradient,) = torch.autograd.grad(score, inputs, create_graph=True)
    return gamma / 2 * _wide(gradient[:, colours]).square().sum(dim=(1, 2, 3)).mean()


def feature_matching(fake: LayerOutputs, real: LayerOutputs, num_D: int, n_layers_D: int,
                     weight: float) -> Tensor:
    """L1 between the layers before the score, real side constant; 0 where only scores are given.

    `num_D` is the image discriminator's for every discriminator, the face's with its fewer scales included.
    """
    layers, references = ([x for scale in side for x in scale[:-1]] for side in (fake, real))
    if not layers:
        return _wide(fake[0][-1]).new_zeros(())
    return weighted_l1(layers, references, len(layers) * [weight * 4 / (n_layers_D + 1) / num_D])


def perceptual_distance(fake_features: list[Tensor], real_features: list[Tensor]) -> Tensor:
    """V(fake, real): weighted L1 of the five VGG19 feature maps, real side constant."""
    return weighted_l1(fake_features, real_features, PERCEPTUAL_WEIGHTS)


def weighted_l1(tensors: Sequence[Tensor], references: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum of the mean absolute differences of each pair; the references are constant."""
    assert len(tensors) == len(references) == len(weights)
    total: Tensor = _WeightedL1.apply(weights, [x.detach() for x in references], *tensors)
    return total


class _WeightedL1(torch.autograd.Function):
    """With its gradient written down: over all pairs at once where that takes no more memory."""

    @staticmethod
    def forward(ctx: Any, weights: Sequence[float], references: list[Tensor], *tensors: Tensor) -> Tensor:
        differences = torch._foreach_sub([_wide(x) for x in tensors], references)
        ctx.save_for_backward(*differences)
        ctx.factors = [weight / x.numel() for weight, x in zip(weights, tensors, strict=True)]
        means = [x.abs().mean() for x in differences]  # one by one: all of them take as much memory again
        torch._foreach_mul_(means, weights)
        return torch.stack(means).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = torch._foreach_sign(ctx.saved_tensors)
        torch._foreach_mul_(found, ctx.factors)
        torch._foreach_mul_(found, gradient)
        return None, None, *found


def masked_l1(a: Tensor, b: Tensor | float, mask: Tensor) -> Tensor:
    """Mean of |a - b| * mask, which is not negative, over all elements, masked ones included."""
    b = _wide(b) if isinstance(b, Tensor) else b
    return ((_wide(a) - b).abs() * _wide(mask)).mean()


def flow_loss(flow: Tensor, flow_ref: Tensor, confidence: Tensor, lambda_F: float,
              n_scales_spatial: int) -> Tensor:
    """F_Flow: predicted against reference flow, (N, 2, H, W) in pixels, where the reference is trusted."""
    return masked_l1(flow, flow_ref, confidence) * (lambda_F / 2 ** (n_scales_spatial - 1))


def flow_warp_loss(flow: Tensor, real_previous: Tensor, real: Tensor, confidence: Tensor,
                   lambda_T: float) -> Tensor:
    """F_Warp: the real previous frame warped by the predicted flow against the real frame."""
    return masked_l1(warp(_wide(real_previous), flow), real, confidence) * lambda_T


def temporal_warp_loss(fake: Tensor, fake_previous: Tensor, flow_ref: Tensor, confidence: Tensor,
                       lambda_T: float) -> Tensor:
    """G_Warp: a generated frame against the one before it, warped by the reference flow and held constant."""
    target = warp(_wide(fake_previous.detach()), flow_ref)
    return masked_l1(fake, target, confidence) * lambda_T


def weight_loss(weight: Tensor, confidence: Tensor) -> Tensor:
    """W: pushes towards the warped pixel where the reference flow is trusted (only with no_first_img)."""
    return masked_l1(weight, 0.0, confidence)


def temporal_input(frames: Tensor, flow_ref: Tensor) -> Tensor:
    """Input of a temporal discriminator: the frames of each group, oldest first, then the scaled flows.

    `frames` (N, n_frames_D, 3, H, W) and `flow_ref` (N, n_frames_D - 1, 2, H, W) in pixels.
    """
    return torch.cat([frames.flatten(1, 2), (flow_ref / FLOW_SCALE).to(frames.dtype).flatten(1, 2)], dim=1)


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows top..bottom - 1, columns left..right - 1."""

    top: int
    bottom: int
    left: int
    right: int

    def crop(self, frames: Tensor) -> Tensor:
        """(..., H, W) to (..., bottom - top, right - left)."""
        return frames[..., self.top:self.bottom, self.left:self.right]


def face_side(fine_size: int) -> int:
    """Height and width of the face crop in pixels: a quarter of `data.fineSize`, in multiples of 8."""
    return fine_size // 32 * 8


def face_extent(labels: Tensor, openpose_only: bool) -> Extent | None:
    """Where the faces of some frames lie; None without any. For tensors on the CPU: the result is read.

    `labels` (N, Ca, H, W) is body pose input in [-1, 1]: its DensePose part index marks the head, or, with
    `openpose_only`, the colour of the limb from neck to nose does.
    """
    if openpose_only:
        red, green, blue = labels[:, 0], labels[:, 1], labels[:, 2]
        face = (red > 0.19) & (red < 0.21) & (green < -0.99) & (blue > -0.61) & (blue < -0.59)
    else:
        face = labels[:, 2] > 0.9
    rows, columns = face.any(dim=0).nonzero(as_tuple=True)
    if not len(rows):
        return None
    return Extent(*(int(x) for x in (rows.min(), rows.max(), columns.min(), columns.max())))


def box_around(faces: Sequence[Extent | None], size: Sequence[int], fine_size: int) -> Box | None:
    """One square around all faces in frames of `size` (height, width); None without any (spec: losses 3.5)."""
    found = [face for face in faces if face is not None]
    if not found:
        return None
    side, (height, width) = face_side(fine_size), size
    top = _centred_start(min(face.top for face in found), max(face.bottom for face in found), side, height)
    left = _centred_start(min(face.left for face in found), max(face.right for face in found), side, width)
    return Box(top, top + side, left, left + side)


def _centred_start(first: int, last: int, side: int, size: int) -> int:
    """Start of an interval of `side` pixels around first..last, inside 0..size - 1."""
    centre = (first + last) // 2
    return max(side // 2, min(size - 1 - side // 2, centre)) - side // 2


def add(terms: Sequence[Tensor]) -> Tensor:
    """The sum of scalars."""
    return reduce(operator.add, terms)


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference. Of generated and real frames it is only watched, never trained on."""
    return (_wide(a) - _wide(b)).abs().mean()


def _wide(x: Tensor) -> Tensor:
    """float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
