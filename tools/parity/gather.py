"""Which frames and flows reach each temporal discriminator, chunk by chunk."""

from typing import Any

from tools.parity.case import Case, Check
from vid2vid_dist.config.schema import DiscriminatorConfig
from vid2vid_dist.models.temporal import frames_kept, temporal_plan


def check(case: Case) -> list[Check]:
    """One check per option set: the number of chunks that differ."""
    checks = []
    for table in case.meta["tables"]:
        expected = [chunk["scales"] for chunk in table["chunks"]]
        differing = sum(a != b for a, b in zip(_replay(table), expected, strict=True))
        options = {name: value for name, value in table.items() if name not in ("chunks", "loop_range")}
        checks.append(Check(str(options), differing, 0))
    return checks


def _replay(table: dict[str, Any]) -> list[list[dict[str, Any] | None]]:
    """Run through the clip with a buffer of frame numbers, as training does with frames."""
    disc = DiscriminatorConfig(n_frames_D=table["n_frames_D"], n_scales_temporal=table["n_scales_temporal"],
                               sparse_D=table["sparse_D"])
    buffer: list[int] = []
    n_seen = 0
    chunks = []
    for chunk in table["chunks"]:
        new = chunk["current_frames"]
        row = dict(enumerate(buffer + new, -len(buffer)))
        scales: list[dict[str, Any] | None] = []
        for groups in temporal_plan(disc, n_seen, len(new)):
            frames = [[row[i] for i in group] for group in groups.frames]
            pairs = [[[row[i], row[j]] for i, j in group] for group in groups.flow_pairs]
            scales.append({"frames": frames, "flow_pairs_cur_prev": pairs} if frames else None)
        chunks.append(scales)
        n_seen += len(new)
        buffer = list(row.values())[len(row) - frames_kept(disc, n_seen):]
    return chunks
