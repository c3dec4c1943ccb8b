"""What a rank keeps of a clip between steps: no more than the next chunk looks back at, and all of it saved."""

from __future__ import annotations

import torch

from vid2vid_dist.engine.footage import Footage
from vid2vid_dist.engine.lane import Chunk
from vid2vid_dist.engine.tasks import Site
from vid2vid_dist.models.labels import EncodedLabels

N_PAST = 2


def footage_of(n_frames: int) -> Footage:
    """A clip of which every frame holds its own number."""
    numbers = torch.arange(-N_PAST, n_frames).float().view(1, -1, 1, 1, 1)
    footage = Footage(n_scales=2)
    footage.add(Chunk(EncodedLabels(numbers.expand(1, -1, 5, 4, 8)), numbers.expand(1, -1, 3, 4, 8), N_PAST, True), 0)
    return footage


def test_label_windows_end_with_their_frame() -> None:
    window = footage_of(3).label_window(1, N_PAST + 1, scale=0)
    assert window.planes.shape == (1, 3, 5, 2, 4)
    assert window.planes[0, :, 0, 0, 0].tolist() == [-1.0, 0.0, 1.0]


def test_advancing_forgets_what_nobody_looks_back_at() -> None:
    footage = footage_of(6)
    generator, temporal = Site("generator", 0), Site("temporal_0", 0)
    for frame in range(6):
        footage.carry(generator, "image/1", frame, torch.zeros(1))
        footage.carry(temporal, "image/1", frame, torch.zeros(1))
    footage.advance(6, N_PAST, n_kept=4)
    assert footage.n_seen == 6
    assert sorted(footage.labels) == [4, 5]
    assert sorted(footage.real) == [2, 3, 4, 5]
    assert [frame for _, frame in footage.carried[generator]] == [4, 5]
    assert [frame for _, frame in footage.carried[temporal]] == [2, 3, 4, 5]


def test_a_saved_clip_goes_on_from_its_given_frames() -> None:
    footage = footage_of(6)
    site = Site("generator", 3, 1, 0, "foreground")
    footage.carry(site, "image/1", 5, torch.full((1, 2), 7.0))
    footage.advance(6, N_PAST, n_kept=4)
    restored = Footage(n_scales=2)
    restored.restore(footage.state())
    numbers = torch.arange(4, 8).float().view(1, -1, 1, 1, 1)
    restored.add(Chunk(EncodedLabels(numbers.expand(1, -1, 5, 4, 8)), numbers.expand(1, -1, 3, 4, 8), N_PAST, False), 6)
    assert restored.n_seen == 6
    assert sorted(restored.real) == [2, 3, 4, 5, 6, 7]
    assert sorted(restored.labels) == [4, 5, 6, 7]
    assert restored.carried[site]["image/1", 5].tolist() == [[7.0, 7.0]]
