"""The frames of a chunk's groups, as its tasks count them."""

import itertools

from tests.engine.plans import specs_of
from vid2vid_dist.engine.plan.tasks import LaneChunk
from vid2vid_dist.engine.roles.temporal import chunk_groups


def test_the_published_groups_of_a_clip_of_four_frame_chunks() -> None:
    """Numbers of generated frames, counted from 0 (spec: losses 5.1, the worked example); flow goes to the frame
    before in the group."""
    cfg = specs_of(discriminator__n_scales_temporal=2).cfg
    expected = {0: [[[1, 2, 3]], []], 4: [[[5, 6, 7], [2, 3, 4]], [[1, 4, 7]]],
                8: [[[9, 10, 11], [6, 7, 8]], [[5, 8, 11], [2, 5, 8]]]}
    for n_seen, of_scales in expected.items():
        for scale, groups in enumerate(of_scales):
            found = chunk_groups(cfg, LaneChunk(n_seen, 4), scale)
            assert [[n_seen + i for i in group] for group in found.frames] == groups
            assert [[(n_seen + now, n_seen + before) for now, before in pairs] for pairs in found.flow_pairs] == [
                [(b, a) for a, b in itertools.pairwise(group)] for group in groups]
