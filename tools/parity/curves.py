"""Pixels of single curves through two or three points."""

import numpy as np

from tools.parity.case import Case, Check
from vid2vid_dist.data.face_curves import curve_through

MOVED = 0.01
"""Share of points that may lie elsewhere: fitted values are truncated, where an exact one is a whole number."""


def check(case: Case) -> list[Check]:
    """Every curve has as many points, and nearly all at the same place."""
    lengths, moved, n_points = 0, 0, 0
    for row in case.meta["rows"]:
        curve = curve_through(np.stack([row["x"], row["y"]], axis=1))
        ours = [] if curve is None else list(zip(curve.x.tolist(), curve.y.tolist(), strict=True))
        stored = list(zip(row["curve_x"] or [], row["curve_y"] or [], strict=True))
        lengths += len(ours) != len(stored)
        moved += sum(a != b for a, b in zip(ours, stored, strict=False))
        n_points += len(stored)
    return [Check("curves of another length", lengths, 0), Check("points elsewhere", moved / n_points, MOVED)]
