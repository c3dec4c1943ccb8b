"""A lane: what one chunk of a clip hands to the next."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from vid2vid_dist.engine.run.in_flight import ClipState, clip_files
from vid2vid_dist.engine.run.lane import Chunk, Lane, look_back

from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.errors import UserError
from vid2vid_dist.models.generator import GeneratedChunk
from vid2vid_dist.models.labels import pyramid

N_PAST, T = 2, 4
CPU = torch.device("cpu")


def config(*overrides: str) -> Config:
    return load_config(None, ["data.label_nc=50", *overrides])


def lane(*overrides: str) -> Lane:
    return Lane(config(*overrides), CPU, torch.float64)


def video(first: int, end: int, width: int = 8) -> Frames:
    """Frames whose label is their number and whose pixels are five times it."""
    numbers = torch.arange(first, end, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    labels = numbers.expand(-1, 1, 8, width)
    images = 5 * numbers.expand(-1, 3, 8, width)
    return Frames(labels, images, labels.to(torch.int32), [str(i) for i in range(first, end)])


def chunk_frames(number: int) -> Frames:
    """What a lane is fed with: the given frames too before the first chunk."""
    return video(number * T + (N_PAST if number else 0), (number + 1) * T + N_PAST)


def numbers(images: Tensor) -> list[int]:
    """The numbers of real frames (1, F, 3, H, W)."""
    return ((images[0, :, 0, 0, 0] / 2 + 0.5) * 255 / 5).round().int().tolist()


def generated(chunk: Chunk) -> GeneratedChunk:
    """As if each frame were generated as the real one plus a hundredth, with a gradient."""
    fake = (chunk.real + 0.01).requires_grad_()
    history = torch.cat([chunk.real_stack[:, :N_PAST], fake], dim=1)[:, -N_PAST:].detach()
    return GeneratedChunk(fake, fake, None, None, [history])


def flow_of(chunk: Chunk) -> Tensor:
    """Frames' own values as flow: (B, T, 2, H, W)."""
    return chunk.real[:, :, :2] * 3


def advance(one: Lane, number: int) -> Chunk:
    """Feed chunk `number`, and keep what was generated for it."""
    chunk = one.feed([chunk_frames(number)])
    one.keep(generated(chunk), one.temporal_row(chunk, flow_of(chunk)))
    return chunk


def test_a_chunk_sees_the_given_frames_before_it() -> None:
    one = lane()
    for number in range(3):
        chunk = advance(one, number)
        new = list(range(number * T + N_PAST, (number + 1) * T + N_PAST))
        assert numbers(chunk.real) == new
        assert numbers(chunk.real_prev) == [i - 1 for i in new]
        assert numbers(chunk.real_stack) == list(range(new[0] - N_PAST, new[-1] + 1))
        assert chunk.label_stack.ids[0, :, 0, 0, 0].tolist() == numbers(chunk.real_stack)
        assert chunk.labels.ids.equal(chunk.label_stack.ids[:, N_PAST:])
        assert chunk.is_first == (number == 0)
        assert one.n_seen == (number + 1) * T


def test_clips_of_a_lane_are_stacked() -> None:
    one = lane("data.use_instance=true")
    for first, end in ((0, 6), (6, 10)):
        chunk = one.feed([video(first, end), video(first + 20, end + 20)])
        assert chunk.real_stack.shape == (2, 6, 3, 8, 8)
        assert chunk.label_stack.dense().shape == (2, 6, 51, 8, 8)
        assert numbers(chunk.real[1:]) == [i + 20 for i in numbers(chunk.real)]


def test_clips_of_other_size_cannot_share_a_lane() -> None:
    with pytest.raises(UserError, match=r"cannot share a lane \(16x8, 8x8\): set parallel\.batch_size=1"):
        lane().feed([video(0, 6), video(0, 6, width=16)])


def test_rgb_input_is_scaled_like_images() -> None:
    frames = video(0, 6)
    rgb = Frames(frames.images, frames.images, None, frames.names)
    chunk = lane("data.label_nc=0").feed([rgb])
    assert chunk.label_stack.planes.equal(chunk.real_stack)
    assert chunk.label_stack.planes.dtype == torch.float64


@pytest.mark.parametrize(("overrides", "longest"), [
    (("discriminator.n_scales_temporal=2",), 6),  # 3 ** 1 * (3 - 1)
    (("discriminator.n_scales_temporal=1", "discriminator.n_frames_D=2"), 1),
    (("discriminator.n_scales_temporal=0",), 0),
])
def test_the_row_is_the_newest_frames_of_the_clip(overrides: tuple[str, ...], longest: int) -> None:
    one = lane(*overrides)
    for number in range(4):
        n_kept = min(number * T, longest)
        chunk = one.feed([chunk_frames(number)])
        row = one.temporal_row(chunk, flow_of(chunk))
        end = (number + 1) * T + N_PAST
        assert numbers(row.real) == list(range(end - T - n_kept, end))
        torch.testing.assert_close(row.fake_past, row.real[:, :n_kept] + 0.01)
        torch.testing.assert_close(row.flow, row.real[:, :, :2] * 3)
        for scale, groups in enumerate(row.plan.scales):
            step = one._cfg.discriminator.n_frames_D**scale
            assert all(b - a == step for group in groups.frames for a, b in pairwise(group))
        assert not row.fake_past.requires_grad
        one.keep(generated(chunk), row)


def test_the_published_groups_of_a_clip_of_four_frame_chunks() -> None:
    """Numbers of generated frames, counted from 0 (spec: losses 5.1, the worked example)."""
    expected = {0: [[[1, 2, 3]], []], 1: [[[5, 6, 7], [2, 3, 4]], [[1, 4, 7]]],
                2: [[[9, 10, 11], [6, 7, 8]], [[5, 8, 11], [2, 5, 8]]]}
    one = lane("discriminator.n_scales_temporal=2")
    for number, of_scales in expected.items():
        chunk = one.feed([chunk_frames(number)])
        row = one.temporal_row(chunk, flow_of(chunk))
        found = [[numbers(row.real[:, list(group)]) for group in groups.frames] for groups in row.plan.scales]
        assert [[[i - N_PAST for i in group] for group in groups] for groups in found] == of_scales
        one.keep(generated(chunk), row)


def test_the_frame_before_is_real_at_the_start_and_generated_later() -> None:
    one = lane()
    chunk = one.feed([chunk_frames(0)])
    made = generated(chunk)
    before = one.previous_fake(chunk, made.fake)
    assert before.equal(torch.cat([chunk.real_prev[:, :1], made.fake[:, :-1]], dim=1))
    assert not before.requires_grad
    one.keep(made, one.temporal_row(chunk, flow_of(chunk)))
    following = one.feed([chunk_frames(1)])
    again = generated(following)
    before = one.previous_fake(following, again.fake)
    assert before.equal(torch.cat([made.fake[:, -1:], again.fake[:, :-1]], dim=1))
    assert not before.requires_grad


@pytest.mark.parametrize("n_chunks", [1, 2])
def test_a_restored_lane_goes_on_as_the_first(n_chunks: int, tmp_path: Path) -> None:
    first = lane("discriminator.n_scales_temporal=2")
    for number in range(n_chunks):
        advance(first, number)
    second = lane("discriminator.n_scales_temporal=2")
    save_file({k: x.contiguous() for k, x in first.state().items()}, tmp_path / "lane_0007.safetensors")
    second.restore(ClipState.read(clip_files(tmp_path, 7), CPU))
    n_back = look_back(config("discriminator.n_scales_temporal=2"), n_chunks * T)
    assert n_back == min(n_chunks * T, 6)  # the coarse scale looks at frames six apart
    given_too = video(n_chunks * T + N_PAST - n_back, (n_chunks + 1) * T + N_PAST)
    a, b = first.feed([chunk_frames(n_chunks)]), second.feed([given_too])
    assert a.label_stack.dense().equal(b.label_stack.dense())
    assert a.real_stack.equal(b.real_stack)
    assert a.is_first == b.is_first is False
    row_a, row_b = (one.temporal_row(chunk, flow_of(chunk)) for one, chunk in ((first, a), (second, b)))
    assert row_a.plan == row_b.plan
    for name in ("real", "fake_past", "flow"):
        assert getattr(row_a, name).equal(getattr(row_b, name))
    assert first.previous_fake(a, a.real).equal(second.previous_fake(b, b.real))
    assert [x.tolist() for x in first.history] == [x.tolist() for x in second.history]
    assert first.state().keys() == second.state().keys()


def test_a_clip_shorter_than_the_history_is_restored_with_its_given_frames(tmp_path: Path) -> None:
    """One generated frame, history of two: the frame before it is a real one, halved at the coarse scale."""
    two_scales = ("generator.n_scales_spatial=2", "discriminator.n_scales_temporal=1")
    first, second = lane(*two_scales), lane(*two_scales)
    chunk = first.feed([video(0, N_PAST + 1)])
    fakes = [torch.cat([x[:, 1:2], x[:, 2:] + 0.5], dim=1) for x in pyramid(chunk.real_stack, 2)]
    first.keep(GeneratedChunk(chunk.real + 0.5, chunk.real, None, None, fakes), first.temporal_row(
        chunk, flow_of(chunk)))
    save_file({k: x.contiguous() for k, x in first.state().items()}, tmp_path / "lane_0000.safetensors")
    second.restore(ClipState.read(clip_files(tmp_path, 0), CPU))
    second.feed([video(1, N_PAST + 2)])
    assert all(a.equal(b) for a, b in zip(first.history, second.history, strict=True))
