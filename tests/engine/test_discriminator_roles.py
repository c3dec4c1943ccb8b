"""Discriminator roles: two gradients from one pass over the fake frames, equal to the textbook's three forwards."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from vid2vid_dist.engine.roles.discriminator_roles import ImageDiscriminatorRole, TemporalDiscriminatorRole
from vid2vid_dist.engine.roles.roles import CriticResult, FlowRole
from vid2vid_dist.engine.run.lane import Chunk, TemporalRow

from tests.engine.textbook import (
    N_PAST,
    SHARE,
    B,
    H,
    T,
    Textbook,
    W,
    assert_equal,
    chunk,
    config,
    engine,
    expected_gradients,
    gradients,
    made,
    noise,
)
from tools.parity.trace import StandInFlow
from vid2vid_dist.config.schema import Config
from vid2vid_dist.models.discriminator import face_discriminator, image_discriminator, temporal_discriminator
from vid2vid_dist.models.generator import GeneratedChunk
from vid2vid_dist.models.temporal import temporal_plan


@pytest.mark.parametrize("overrides", [
    (), ("loss.gan_mode=hinge",), ("loss.no_ganFeat=true",), ("generator.norm=instance",), ("generator.no_flow=true",),
], ids=str)
def test_image_discriminator(overrides: tuple[str, ...]) -> None:
    cfg = config(*overrides)
    role = ImageDiscriminatorRole(cfg, engine(image_discriminator(cfg)))
    module, this, generated = role.engine.module, chunk(cfg), made(cfg)
    result = role.evaluate(this, generated, SHARE)
    found = gradients(module)

    labels = this.labels.dense().flatten(0, 1)
    book = Textbook(cfg, lambda images: module(torch.cat([labels, images.flatten(0, 1)], dim=1)), this.real)
    fake, raw = (x.clone().requires_grad_() for x in (generated.fake, generated.raw))
    of_fake, of_raw = torch.autograd.grad(book.for_generator(fake) + book.for_generator(raw), [fake, raw])
    if cfg.generator.no_flow:  # one tensor, counted twice
        torch.testing.assert_close(result.fake, 2 * of_fake, rtol=1e-9, atol=1e-13)
        assert result.raw is None
    else:
        torch.testing.assert_close([result.fake, result.raw], [of_fake, of_raw], rtol=1e-9, atol=1e-13)
    loss = 0.5 * (book.for_weights(fake) + book.for_weights(raw))
    assert_equal(found, expected_gradients(SHARE * loss, module))
    torch.testing.assert_close(0.5 * (result.losses["D_real"] + result.losses["D_fake"]), loss.detach())


def image_result(*overrides: str) -> tuple[CriticResult, dict[str, Tensor]]:
    cfg = config(*overrides)
    torch.manual_seed(0)
    role = ImageDiscriminatorRole(cfg, engine(image_discriminator(cfg)))
    result = role.evaluate(chunk(cfg), made(cfg), SHARE)
    return result, gradients(role.engine.module)


@pytest.mark.parametrize("per_pass", [1, 2, 3, 4, 9])
def test_passes_without_shared_statistics_change_nothing(per_pass: int) -> None:
    """Also when the last pass has fewer frames: every frame weighs the same."""
    norm = "generator.norm=instance"
    (whole, whole_weights), (parts, part_weights) = (
        image_result(norm, f"discriminator.frames_per_pass={n}") for n in (0, per_pass))
    torch.testing.assert_close(parts.losses, whole.losses, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close([parts.fake, parts.raw], [whole.fake, whole.raw], rtol=1e-9, atol=1e-13)
    assert_equal(part_weights, whole_weights)


def test_frames_of_a_pass_are_normalised_together() -> None:
    """With batch norm, passes of two frames are what two chunks of two frames would be."""
    result, weights = image_result("discriminator.frames_per_pass=2")
    cfg = config()
    torch.manual_seed(0)
    role = ImageDiscriminatorRole(cfg, engine(image_discriminator(cfg)))
    this, generated = chunk(cfg), made(cfg)
    halves = []
    for first in (0, 2):
        frames = slice(first, first + N_PAST + 2)
        half = Chunk(this.label_stack.frames(frames), this.real_stack[:, frames], N_PAST, is_first=True)
        part = GeneratedChunk(generated.fake[:, first:first + 2], generated.raw[:, first:first + 2], None, None, [])
        halves.append(role.evaluate(half, part, SHARE / 2))
    mean = {name: (halves[0].losses[name] + halves[1].losses[name]) / 2 for name in result.losses}
    torch.testing.assert_close(result.losses, mean, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(result.fake, torch.cat([halves[0].fake, halves[1].fake], dim=1) / 2)
    assert_equal(weights, gradients(role.engine.module))
    together, _ = image_result()
    assert abs(together.losses["D_fake"] - result.losses["D_fake"]) > 1e-6


def face_role() -> tuple[ImageDiscriminatorRole, Chunk, GeneratedChunk, Config]:
    """Pose input of 64x64 without any face: the head's part index nowhere."""
    cfg = config("data.label_nc=0", "data.input_nc=3", "data.fineSize=64", "discriminator.add_face_disc=true")
    role = ImageDiscriminatorRole(cfg, engine(image_discriminator(cfg)), engine(face_discriminator(cfg)))
    this = chunk(cfg, 64, 64)
    this.label_stack.planes[:, :, 2] = 0.0
    return role, this, made(cfg, 64, 64), cfg


def test_without_a_face_the_face_discriminator_rests() -> None:
    role, this, generated, cfg = face_role()
    result = role.evaluate(this, generated, SHARE)
    assert [float(result.losses[n]) for n in ("G_f_GAN", "G_f_GAN_Feat", "D_f_real", "D_f_fake")] == [0.0] * 4
    assert not any(tensor.any() for tensor in gradients(role.face_engine.module).values())
    without = ImageDiscriminatorRole(cfg, role.engine).evaluate(this, generated, SHARE)
    torch.testing.assert_close([result.fake, result.raw], [without.fake, without.raw])


def test_face_discriminator_judges_the_box() -> None:
    role, this, generated, cfg = face_role()
    this.labels.planes[1, 2, 2, 30:35, 20:27] = 1.0  # one frame of one clip has a face; the box is for all
    result = role.evaluate(this, generated, SHARE)
    found = gradients(role.face_engine.module)
    without = ImageDiscriminatorRole(cfg, role.engine).evaluate(this, generated, SHARE)

    def crop(x: Tensor) -> Tensor:
        return x.flatten(0, 1)[..., 24:40, 15:31]  # 16 pixels (64 // 32 * 8) around (32, 23)

    module, labels = role.face_engine.module, crop(this.labels.dense())
    book = Textbook(cfg, lambda images: module(torch.cat([labels, crop(images)], dim=1)), this.real)
    fake = generated.fake.clone().requires_grad_()
    (of_fake,) = torch.autograd.grad(2 * book.for_generator(fake), fake)
    torch.testing.assert_close(result.fake - without.fake, of_fake, rtol=1e-9, atol=1e-13)
    assert of_fake[..., 24:40, 15:31].any()
    torch.testing.assert_close(result.raw, without.raw)  # faces are judged on the final frames only
    assert_equal(found, expected_gradients(SHARE * 0.5 * book.for_weights(fake), module))


@pytest.mark.parametrize("scale", [0, 1])
def test_temporal_discriminator(scale: int) -> None:
    """Groups of the buffer's frames and of the chunk's; only the chunk's receive a gradient."""
    cfg, past = config("discriminator.n_scales_temporal=2"), 6
    plan = temporal_plan(cfg.discriminator, past, T)
    row = TemporalRow(noise(6, B, past + T, 3, H, W), noise(7, B, past, 3, H, W), noise(8, B, past + T, 2, H, W), plan)
    role = TemporalDiscriminatorRole(cfg, engine(temporal_discriminator(cfg)), scale)
    network, generated = StandInFlow(), made(cfg)
    result = role.evaluate(row, generated, FlowRole(cfg, network), SHARE)
    found = gradients(role.engine.module)

    groups = [[7, 8, 9], [4, 5, 6]] if scale == 0 else [[3, 6, 9], [0, 3, 6]]

    def stacked(frames: Tensor) -> Tensor:
        """(B x groups, channels, H, W): three frames, then the flow of the last two to the one before each."""
        found = []
        for clip in range(B):
            for group in groups:
                images = [frames[clip, i] for i in group]
                if scale == 0:
                    flows = [row.flow[clip, i] for i in group[1:]]
                else:
                    reals = [row.real[clip, i] for i in group]
                    flows = [network(now, before).flow for before, now in pairwise(reals)]
                found.append(torch.cat([*images, *(flow / 20 for flow in flows)]))
        return torch.stack(found)

    fake = generated.fake.clone().requires_grad_()
    whole = torch.cat([row.fake_past, fake], dim=1)
    module = role.engine.module
    book = Textbook(cfg, lambda frames: module(stacked(frames)), row.real)
    (of_fake,) = torch.autograd.grad(book.for_generator(whole), fake)
    torch.testing.assert_close(result.fake, of_fake, rtol=1e-9, atol=1e-13)
    touched = [bool(of_fake[:, t].any()) for t in range(T)]
    assert touched == [past + t in {*groups[0], *groups[1]} for t in range(T)]
    assert_equal(found, expected_gradients(SHARE * 0.5 * book.for_weights(whole), module))
    assert set(result.losses) == {f"{n}{scale}" for n in ("G_T_GAN", "G_T_GAN_Feat", "D_T_real", "D_T_fake")}
