"""What a rank keeps of a clip between steps: no more than the next chunk looks back at, and all of it saved."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.engine.one_rank import OneRank
from tests.engine.spread_clips import clip as frames_of
from tools.lanes import clip_of
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.schedule import in_order, needed_frames
from vid2vid_dist.engine.plan.tasks import LaneChunk, NeededFrames, StepShape
from vid2vid_dist.engine.plan.tensors import FrameSize, Part, image, reference
from vid2vid_dist.engine.run.clip import ClipInFlight, clip_files
from vid2vid_dist.models.labels import EncodedLabels, pyramid
from vid2vid_dist.network_input import encode_inputs, encode_pictures

N_PAST = 2
SIZE = FrameSize(1, 4, 8)
CPU = torch.device("cpu")


def clip_with(n_frames: int) -> ClipInFlight:
    """Two scales of a clip of which every frame holds its own number."""
    numbers = torch.arange(-N_PAST, n_frames).float().view(1, -1, 1, 1, 1)
    clip = ClipInFlight(2, SIZE)
    clip.add_labels(range(-N_PAST, n_frames), EncodedLabels(numbers.expand(1, -1, 5, 4, 8)))
    clip.add_real(range(-N_PAST, n_frames), numbers.expand(1, -1, 3, 4, 8))
    return clip


def numbers_in(frames: Tensor) -> list[float]:
    """(1, F, C, h, w)"""
    return frames[0, :, 0, 0, 0].tolist()


def test_a_chunk_sees_the_frames_that_come_next_and_those_before_them() -> None:
    clip = clip_with(12)
    for number in range(3):
        first = 4 * number
        labels, real = clip.seen(4)
        assert labels.planes.shape == (1, 4, 5, 4, 8)
        assert numbers_in(labels.planes) == numbers_in(real) == [first, first + 1, first + 2, first + 3]
        for scale, size in enumerate([(2, 4), (4, 8)]):
            window = clip.label_window(first, N_PAST + 1, scale).planes
            assert window.shape == (1, 3, 5, *size)
            assert numbers_in(window) == [first - 2, first - 1, first]
        assert clip.n_seen == first
        clip.advance(4, N_PAST, n_kept=0)


def test_given_frames_are_there_at_every_scale() -> None:
    clip = ClipInFlight(2, SIZE)
    real = torch.randn(1, 2, 3, 4, 8)
    clip.add_real(range(-2, 0), real)
    for scale, expected in enumerate(pyramid(real, 2)):
        assert torch.equal(torch.stack([clip.given(frame, scale) for frame in (-2, -1)], dim=1), expected)


def test_advancing_forgets_what_nobody_looks_back_at() -> None:
    clip = clip_with(6)
    kinds = [image(0), image(1), reference(), reference(3)]
    for frame in range(8):  # flow was computed ahead
        clip.made |= {Part(kind, frame): torch.zeros(1) for kind in kinds if frame < 6 or kind not in kinds[:2]}
    clip.advance(6, N_PAST, n_kept=4)
    assert clip.n_seen == 6
    assert sorted(clip.labels) == [4, 5]
    assert sorted(clip.real) == [2, 3, 4, 5]
    assert [[frame for kind, frame in clip.made if kind == wanted] for wanted in kinds] == [
        [4, 5], [2, 3, 4, 5], [2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7]]


def test_what_is_kept_is_what_was_said_to_be_kept() -> None:
    """The frames to decode for the next step are those that it reads and this one has not left."""
    clip = clip_with(6)
    said = NeededFrames(frozenset(clip.labels), frozenset(clip.real)).kept(6, N_PAST, n_kept=4)
    clip.advance(6, N_PAST, n_kept=4)
    assert said == NeededFrames(frozenset(clip.labels), frozenset(clip.real))


def saved(state: dict[str, Tensor], path: Path) -> Path:
    save_file({name: x.contiguous() for name, x in state.items()}, path)
    return path


@pytest.mark.parametrize("with_ahead", [True, False])
def test_a_saved_clip_has_everything_but_what_is_decoded_again(tmp_path: Path, with_ahead: bool) -> None:
    clip = clip_with(6)
    parts = [Part(image(0), 5), Part(image(1), 4), Part(reference(), 5), Part(reference(3), 3),
             Part(reference(), 6), Part(reference(3), 8)]  # the last two ahead
    clip.made = {part: torch.full((1, 2), float(number)) for number, part in enumerate(parts)}
    clip.advance(6, N_PAST, n_kept=4)
    assert clip.state().keys() == {"n_seen", "image/0/5", "image/1/4", "reference/1/5", "reference/3/3",
                                   "reference/1/6", "reference/3/8"}
    restored = ClipInFlight(2, SIZE)
    restored.restore([saved(clip.state(), tmp_path / "one.safetensors")], CPU, with_ahead)
    assert restored.n_seen == 6
    assert {part: x.tolist() for part, x in restored.made.items()} == {
        part: [[number, number]] for number, part in enumerate(parts[: 6 if with_ahead else 4])}
    assert not restored.labels
    assert not restored.real


def test_a_clip_that_lay_on_several_ranks_is_put_together(tmp_path: Path) -> None:
    """In the form of checkpoints before 0.2: of ranks with all roles, and of pipelines, which named the site in front.
    Flow between skipped frames, which was computed ahead, had no name of its own."""
    n_seen = torch.tensor(6)
    whole = {"n_seen": n_seen, "image/0/5": torch.tensor([1.0]), "reference/5": torch.tensor([2.0])}
    saved(whole, tmp_path / "lane_0001.safetensors")
    saved({"n_seen": n_seen, "carried|generator|0|1|0||image/0|5": torch.tensor([1.0]),
           "carried|generator|0|0|1||image/1|4": torch.tensor([3.0])}, tmp_path / "lane_0002.slot_000.safetensors")
    saved({"n_seen": n_seen, "carried|temporal_0|0|0|0||reference|5": torch.tensor([2.0]),
           "carried|temporal_0|0|0|0||image/1|-1": torch.tensor([4.0]),
           "carried|temporal_0|0|0|0||reference|6": torch.tensor([9.0]),
           "carried|temporal_1|0|0|0||skipped_flow/2|6": torch.tensor([9.0]),
           "carried|temporal_1|0|0|0||skipped_flow/2|4": torch.tensor([9.0])},
          tmp_path / "lane_0002.slot_001.safetensors")
    expected = {Part(image(0), 5): 1.0, Part(reference(), 5): 2.0}
    for lane, more in ((1, {}), (2, {Part(image(1), 4): 3.0, Part(image(1), -1): 4.0})):
        found = ClipInFlight(2, SIZE)
        found.restore(clip_files(tmp_path, lane), CPU, with_ahead=False)
        assert found.n_seen == 6
        assert {part: float(x) for part, x in found.made.items()} == expected | more


def picked(frames: Frames, numbers: frozenset[int]) -> list[Frames]:
    """Frames of a clip by their numbers from the first generated one, in their order."""
    these = [i + N_PAST for i in sorted(numbers)]
    assert frames.images is not None
    assert frames.instances is not None
    return [Frames(frames.labels[these], frames.images[these], frames.instances[these], [])]


@pytest.mark.parametrize("chunks", [(4, 4), (4, 4, 3), (1, 2)], ids=str)
def test_a_restored_clip_goes_on_as_the_first(chunks: tuple[int, ...], tmp_path: Path) -> None:
    """From what was saved, and from no other frames than those that the next step reads; also where the history is
    longer than what has been generated, so that it looks back at given frames."""
    rank = OneRank("discriminator.n_scales_temporal=2", "generator.style_nc=3")
    specs, n_frames = rank.specs, chunks[-1]
    frames = frames_of(0, N_PAST + sum(chunks))
    first = clip_of(rank.cfg, [frames], CPU)
    for done in chunks[:-1]:
        rank.step(first, done)
    second = ClipInFlight(rank.cfg.generator.n_scales_spatial, first.size)
    second.restore([saved(first.state(), tmp_path / "one.safetensors")], CPU, with_ahead=True)
    chunk = LaneChunk(second.n_seen, n_frames)
    plan = in_order(step_tasks(specs, StepShape((chunk,)), whole_chunks=True), colocated(specs, 1))
    needed = needed_frames(specs, plan, 0, 0, chunk)
    second.add_labels(sorted(needed.labels), encode_inputs(rank.cfg, picked(frames, needed.labels), CPU, rank.dtype))
    second.add_real(sorted(needed.real), encode_pictures(picked(frames, needed.real), CPU, rank.dtype))

    expected, found = (rank.step(clip, n_frames) for clip in (first, second))
    assert expected.losses.keys() >= {"G_GAN", "G_Warp", *(["G_T_GAN1"] if sum(chunks) > 6 else [])}
    assert found.losses == expected.losses
    assert found.squared_norms == expected.squared_norms
    assert first.state().keys() == second.state().keys()
    assert all(torch.equal(x, second.state()[name]) for name, x in first.state().items())
