"""What an evaluation has found, as numbers, JSON and a table of one run or of two."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from vid2vid_dist.monitor.svg_curves import number

BETTER = {"L1": "low", "PSNR": "high", "SSIM": "high", "LPIPS": "low", "warp error": "low"}


@dataclass(frozen=True)
class SetFigure:
    """A figure of all frames together, and of how many of which size it is."""

    value: float
    over: str
    better: str = "low"


@dataclass
class Evaluation:
    """Figures of a run by name: `frames[video][name]` by frame, NaN where there is none; `sets` over everything.

    size: of the frames; rate: frames generated per second.
    """

    frames: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    sets: dict[str, SetFigure] = field(default_factory=dict)
    name: str = ""
    size: str = ""
    rate: float = float("nan")

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for figures in self.frames.values() for name in figures))

    def by_frame(self, name: str) -> np.ndarray:
        """The mean over the videos of each frame index; shorter videos take part as far as they go."""
        rows = [figures.get(name, []) for figures in self.frames.values()]
        padded = np.full((len(rows), max(map(len, rows))), np.nan)
        for padded_row, row in zip(padded, rows, strict=True):
            padded_row[: len(row)] = row
        there = np.isfinite(padded)
        return np.where(there, padded, 0).sum(0) / np.where(there.any(0), there.sum(0), np.nan)

    def mean(self, name: str) -> float:
        """The mean over all frames of all videos, NaN where no frame has the figure."""
        values = np.concatenate([figures.get(name, []) for figures in self.frames.values()])
        return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

    def drift(self, name: str) -> float:
        """Change per 100 frames, of the straight line through the means by frame."""
        values = self.by_frame(name)
        index = np.flatnonzero(np.isfinite(values))
        return float(100 * np.polyfit(index, values[index], 1)[0]) if len(index) > 1 else 0.0

    def over(self, name: str) -> str:
        """The frames that have the figure."""
        counts = [int(np.isfinite(figures.get(name, [])).sum()) for figures in self.frames.values()]
        n_videos = sum(count > 0 for count in counts)
        return f"{sum(counts)} frames of {n_videos} video{'s' * (n_videos != 1)}, {self.size}"

    def to_json(self) -> str:
        figures = {name: {"mean": _finite(self.mean(name)), "drift_per_100_frames": self.drift(name),
                          "over": self.over(name), "by_frame": _plain(self.by_frame(name))} for name in self.names}
        videos = {video: {name: _plain(values) for name, values in of.items()} for video, of in self.frames.items()}
        sets = {name: {**asdict(figure), "value": _finite(figure.value)} for name, figure in self.sets.items()}
        return json.dumps({"run": self.name, "figures": figures, "sets": sets, "videos": videos}, indent=1,
                          allow_nan=False)


def table_of(found: Sequence[Evaluation]) -> list[list[str]]:
    """Header and rows: each figure's mean and drift over the frames, and what it is taken over; of two runs, which have
    the same figures, also by how much the second is larger."""
    one = found[0]
    names = [evaluation.name for evaluation in found] if len(found) > 1 else ["mean"]
    drifts = [f"drift of {name}" for name in names] if len(found) > 1 else ["drift per 100 frames"]
    rows = [["figure", *names, *(["difference"] if len(found) > 1 else []), *drifts, "better", "over"]]
    for name in one.names:
        rows.append([name, *_beside([each.mean(name) for each in found]),
                     *(f"{each.drift(name):+.2g}" for each in found), BETTER.get(name, ""), one.over(name)])
    for name, figure in one.sets.items():
        rows.append([name, *_beside([each.sets[name].value for each in found]), *("" for _ in found), figure.better,
                     figure.over])
    return rows


def lines(found: Sequence[Evaluation]) -> Iterator[str]:
    """The table as text."""
    rows = table_of(found)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _beside(values: Sequence[float]) -> list[str]:
    return [*map(number, values), *(f"{other - values[0]:+.2g}" for other in values[1:])]


def _plain(values: np.ndarray | list[float]) -> list[float | None]:
    return list(map(_finite, values))


def _finite(value: float) -> float | None:
    """As JSON knows numbers."""
    return float(value) if np.isfinite(value) else None
