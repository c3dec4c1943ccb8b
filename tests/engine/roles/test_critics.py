"""What a comparison of whole steps does not show: which frames discriminators judge together, and faces.

Every test takes real steps; they leave the weights as they are.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.engine.one_rank import OneRank
from tests.engine.spread_clips import HEIGHT, WIDTH, clip
from tools.lanes import clip_of
from vid2vid_dist import losses
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.tensors import RAW, image
from vid2vid_dist.engine.run.clip import ClipInFlight
from vid2vid_dist.engine.run.executor import StepResult

N_PAST, T = 2, 4
FINEST = image(1)
OF_IMAGE = ("G_GAN", "G_GAN_Feat", "D_real", "D_fake")
CPU = torch.device("cpu")


def close(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


def of_image(rank: OneRank, result: StepResult) -> tuple[dict[str, Tensor], list[Tensor], dict[str, Tensor]]:
    """The image discriminator's losses, its gradients to the frames, and those of its weights."""
    to_frames = [rank.made("image", kind.gradient) for kind in (FINEST, RAW)]
    return {name: result.losses[name] for name in OF_IMAGE}, to_frames, rank.gradients("image")


def image_step(*overrides: str) -> tuple[dict[str, Tensor], list[Tensor], dict[str, Tensor]]:
    rank = OneRank("discriminator.n_scales_temporal=0", *overrides)
    return of_image(rank, rank.step(clip_of(rank.cfg, [clip(0, N_PAST + T)], CPU), T))


def test_passes_without_shared_statistics_change_nothing() -> None:
    """Also when the last pass has fewer frames: every frame weighs the same."""
    whole, *others = (image_step("generator.norm=instance", f"discriminator.frames_per_pass={n}")
                      for n in (0, 1, 2, 3, 4, 9))
    assert any(x.abs().max() > 1e-6 for x in whole[2].values())
    for parts in others:
        close(parts, whole)


def test_frames_of_a_pass_are_normalised_together() -> None:
    """With batch norm, passes of two frames are what two chunks of two frames would be."""
    found_losses, to_frames, to_weights = image_step("discriminator.frames_per_pass=2")
    rank = OneRank("discriminator.n_scales_temporal=0")
    frames = clip_of(rank.cfg, [clip(0, N_PAST + T)], CPU)
    (loss_a, frames_a, weights_a), (loss_b, frames_b, weights_b) = (
        of_image(rank, rank.step(frames, 2)) for _ in range(2))
    close(found_losses, {name: (loss_a[name] + loss_b[name]) / 2 for name in OF_IMAGE})
    close(to_frames, [torch.cat([a, b], dim=1) / 2 for a, b in zip(frames_a, frames_b, strict=True)])
    close(to_weights, {name: (weights_a[name] + weights_b[name]) / 2 for name in weights_a})
    together, *_ = image_step()
    assert abs(together["D_fake"] - found_losses["D_fake"]) > 1e-6


OF_FACE = ("G_f_GAN", "G_f_GAN_Feat", "D_f_real", "D_f_fake")


@pytest.fixture(scope="module")
def faces() -> OneRank:
    return OneRank("data.label_nc=0", "data.input_nc=3", "data.use_instance=false", "generator.fg=false",
                   "data.fineSize=64", "discriminator.add_face_disc=true", "parallel.batch_size=2")


def poses(cfg: Config, head: int) -> ClipInFlight:
    """Two clips of pictures of poses. A head, where `head` is 255, is in one frame of one of them, at rows 14-18 and
    columns 20-26."""
    frames = []
    for number in (0, 1):
        drawn = clip(number, N_PAST + T)
        assert drawn.images is not None
        labels = drawn.images.flip(1)
        labels[:, 2] = 0
        frames.append(replace(drawn, labels=labels, instances=None))
    frames[1].labels[N_PAST + 2, 2, 14:19, 20:27] = head
    return clip_of(cfg, frames, CPU)


def test_without_a_face_the_face_discriminator_rests(faces: OneRank) -> None:
    result = faces.step(poses(faces.cfg, head=0), T)
    assert [float(result.losses[name]) for name in OF_FACE] == [0.0] * 4
    assert float(result.squared_norms["face"]) == 0
    assert not faces.made("face", FINEST.gradient).any()
    assert not any(x.any() for x in faces.gradients("face").values())
    assert all(float(result.losses[name]) > 0 for name in OF_IMAGE), "others go on"


def test_face_discriminator_judges_the_box(faces: OneRank) -> None:
    judged = poses(faces.cfg, head=255)
    labels = torch.stack([judged.labels[t][-1].planes[:, 0] for t in range(T)], dim=1)
    real = torch.stack([judged.real[t] for t in range(T)], dim=1)
    result = faces.step(judged, T)
    to_frames = faces.made("face", FINEST.gradient)
    assert to_frames.shape == (2, T, 3, HEIGHT, WIDTH)
    rows, columns = slice(8, 24), slice(15, 31)  # 64 // 32 * 8 pixels around (16, 23)
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[rows, columns] = True
    assert not to_frames[..., ~inside].any()
    assert to_frames[..., inside].any(dim=-1).all(), "in every frame of both clips"
    # Faces are judged on the final frames only.
    assert not any(part.kind == RAW.gradient for part, _ in faces.roles["face"].made)

    module, fake = faces.module("face"), faces.made("generator", FINEST)
    on_real, on_fake = (module(torch.cat([x[..., rows, columns].flatten(0, 1) for x in (labels, images)], dim=1))
                        for images in (real, fake))
    close(result.losses["D_f_real"], losses.gan_loss(on_real, True).detach())
    close(result.losses["D_f_fake"], losses.gan_loss(on_fake, False).detach())
    close(result.losses["G_f_GAN"], losses.FACE_WEIGHT * losses.gan_loss(on_fake, True).detach())
