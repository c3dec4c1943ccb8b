"""Arithmetic of scale, crop, flip and clip selection, given the numbers that the original drew."""

from typing import Any

from tools.parity.case import Case, Check
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.geometry import Draws, clip_geometry
from vid2vid_dist.data.sampling import window


def check(case: Case) -> list[Check]:
    """Every row of both tables must come out exactly: the error is the number of rows that do not."""
    images, videos = case.meta.get("image_params", []), case.meta.get("video_params", [])
    return [
        Check(f"resize, crop, flip ({len(images)} rows)", sum(not _image_agrees(row) for row in images), 0),
        Check(f"clip selection ({len(videos)} rows)", sum(not _video_agrees(row) for row in videos), 0),
    ]


def _image_agrees(row: dict[str, Any]) -> bool:
    names = ("resize_or_crop", "loadSize", "fineSize")
    data = DataConfig(**{name: row[name] for name in names})
    width, height = row["input_size_wh"]
    geometry = clip_geometry((width, height), data, _draws(row["resize_or_crop"], row["draws"]))
    ours = {name: list(getattr(geometry, name)) for name in ("new_size", "crop_size", "crop_pos")}
    return {**ours, "flip": geometry.flip} == row["result"]


def _draws(mode: str, drawn: dict[str, Any]) -> Draws:
    """The original's integers, inclusive [low, high, value] in the order of drawing, as uniform numbers."""
    uniform = [_uniform(value - low, high - low + 1) for low, high, value in drawn.get("random.randint", [])]
    scale = uniform.pop(0) if "randomScale" in mode else 0.0
    crop_y = uniform.pop(0) if uniform else 0.0
    return Draws(scale, drawn.get("np.random.randn", 0.0), crop_y, drawn["random.random"])


def _video_agrees(row: dict[str, Any]) -> bool:
    (high_step, step), (high_start, start) = row["randint_draws_[high,value]"]
    slots = row["n_gpus_gen"] if row["batchSize"] == 1 else 1
    ours = window(
        row["sequence_length"],
        row["n_frames_total"],
        row["max_frames_per_gpu"] * slots,
        row["n_frames_G"],
        row["max_t_step"],
        _uniform(step, high_step),
        _uniform(start, high_start),
    )
    return [ours.n_frames, ours.start, ours.t_step] == row["result_[frames_read,start,t_step]"]


def _uniform(value: int, n: int) -> float:
    """A number in [0, 1) that stands for `value` of 0..n-1."""
    return (value + 0.5) / n
