"""Which frames a temporal discriminator judges together (spec: losses 5).

Pure index arithmetic: the generated frames of a clip form one row; after each chunk the last few of them are kept, and
the next chunk's groups are picked from these and the new frames.
"""

from dataclasses import dataclass

from vid2vid_dist.config.schema import DiscriminatorConfig


@dataclass(frozen=True)
class TemporalGroups:
    """The groups of one temporal scale in one chunk; without any, the scale is inactive.

    Indices count from the chunk's first frame: earlier ones are negative. `frames`: n_frames_D indices per group,
    oldest first. `flow_pairs`: per group the n_frames_D - 1 pairs (current, previous) whose flow goes with it.
    """

    frames: tuple[tuple[int, ...], ...] = ()
    flow_pairs: tuple[tuple[tuple[int, int], ...], ...] = ()

    @property
    def skips_frames(self) -> bool:
        """Whether the flows span several frames, so that the flow between neighbours does not serve."""
        return any(current - previous > 1 for group in self.flow_pairs for current, previous in group)


def frames_kept(disc: DiscriminatorConfig, n_seen: int) -> int:
    """Frames that are kept once `n_seen` frames of a clip have been generated."""
    if not disc.n_scales_temporal:
        return 0
    return min(n_seen, disc.n_frames_D ** (disc.n_scales_temporal - 1) * (disc.n_frames_D - 1))


def temporal_plan(disc: DiscriminatorConfig, n_seen: int, n_new: int) -> tuple[TemporalGroups, ...]:
    """By scale the groups of the chunk that adds `n_new` frames to the `n_seen` already generated in this clip."""
    find_groups = _sparse_groups if disc.sparse_D else _dense_groups
    scales = []
    for scale in range(disc.n_scales_temporal):
        step = disc.n_frames_D**scale
        groups = find_groups(n_seen, n_new, disc.n_frames_D, step)
        frames = tuple(tuple(i - n_seen for i in group) for group in groups)
        # Sparse groups keep one-step flows even where they skip frames.
        flow_step = 1 if disc.sparse_D else step
        pairs = tuple(tuple((i, i - flow_step) for i in group[1:]) for group in frames)
        scales.append(TemporalGroups(frames, pairs))
    return tuple(scales)


def _dense_groups(n_seen: int, n_new: int, n_frames_D: int, step: int) -> list[list[int]]:
    """Groups that end at every n_frames_D-th frame counted back from the newest, newest group first."""
    n_total = n_seen + n_new
    span = step * (n_frames_D - 1)
    n_ends = min(n_total - span, n_new)
    ends = [n_total - 1 - back for back in range(0, n_ends, n_frames_D)]
    return [list(range(end - span, end + 1, step)) for end in ends]


def _sparse_groups(n_seen: int, n_new: int, n_frames_D: int, step: int) -> list[list[int]]:
    """Consecutive groups of the multiples of `step`, in time order, the remainder cut off at the old end.

    n_frames_D - 1 frames from before the chunk may take part.
    """
    old = list(range(0, n_seen, step))[-(n_frames_D - 1):]
    new = [i for i in range(n_seen, n_seen + n_new) if i % step == 0]
    if not new:
        return []
    row = old + new
    row = row[len(row) % n_frames_D:]
    return [row[i:i + n_frames_D] for i in range(0, len(row), n_frames_D)]
