"""What a rank keeps of a clip between steps: no more than the next chunk looks back at, and all of it saved."""

from __future__ import annotations

import torch
from vid2vid_dist.engine.plan.messages import FrameSize

from vid2vid_dist.engine.plan.tasks import Site
from vid2vid_dist.engine.run.clip import ClipBuffer, Reads
from vid2vid_dist.models.labels import EncodedLabels

N_PAST = 2
SIZE = FrameSize(1, 4, 8)


def buffer_of(n_frames: int) -> ClipBuffer:
    """A clip of which every frame holds its own number."""
    numbers = torch.arange(-N_PAST, n_frames).float().view(1, -1, 1, 1, 1)
    buffer = ClipBuffer(2, SIZE)
    buffer.add_labels(range(-N_PAST, n_frames), EncodedLabels(numbers.expand(1, -1, 5, 4, 8)))
    buffer.add_real(range(-N_PAST, n_frames), numbers.expand(1, -1, 3, 4, 8))
    return buffer


def test_label_windows_end_with_their_frame() -> None:
    window = buffer_of(3).label_window(1, N_PAST + 1, scale=0)
    assert window.planes.shape == (1, 3, 5, 2, 4)
    assert window.planes[0, :, 0, 0, 0].tolist() == [-1.0, 0.0, 1.0]


def test_advancing_forgets_what_nobody_looks_back_at() -> None:
    buffer = buffer_of(6)
    generator, temporal = Site("generator", 0), Site("temporal_0", 0)
    for frame in range(6):
        buffer.carry(generator, "image/1", frame, torch.zeros(1))
        buffer.carry(temporal, "image/1", frame, torch.zeros(1))
    buffer.advance(6, N_PAST, n_kept=4)
    assert buffer.n_seen == 6
    assert sorted(buffer.labels) == [4, 5]
    assert sorted(buffer.real) == [2, 3, 4, 5]
    assert [frame for _, frame in buffer.carried[generator]] == [4, 5]
    assert [frame for _, frame in buffer.carried[temporal]] == [2, 3, 4, 5]


def test_what_is_kept_is_what_was_said_to_be_kept() -> None:
    """The frames to decode for the next step are those that it reads and this one has not left."""
    buffer = buffer_of(6)
    said = Reads(frozenset(buffer.labels), frozenset(buffer.real)).kept(6, N_PAST, n_kept=4)
    buffer.advance(6, N_PAST, n_kept=4)
    assert said == Reads(frozenset(buffer.labels), frozenset(buffer.real))


def test_a_chunk_holds_the_frames_that_come_next() -> None:
    buffer = buffer_of(6)
    buffer.advance(2, N_PAST, n_kept=0)
    chunk = buffer.chunk(3)
    assert chunk.labels.planes.shape == (1, 3, 5, 4, 8)
    assert chunk.real[0, :, 0, 0, 0].tolist() == [2.0, 3.0, 4.0]
    assert not chunk.is_first


def test_a_saved_clip_goes_on() -> None:
    buffer = buffer_of(6)
    site = Site("generator", 3, 1, 0, "foreground")
    buffer.carry(site, "image/1", 5, torch.full((1, 2), 7.0))
    buffer.advance(6, N_PAST, n_kept=4)
    restored = ClipBuffer(2, SIZE)
    restored.restore(buffer.state())
    assert restored.n_seen == 6
    assert restored.carried[site]["image/1", 5].tolist() == [[7.0, 7.0]]
    assert not restored.labels, "frames are decoded again"
    assert not restored.real
