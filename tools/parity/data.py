"""Frames as the original's loader delivers them, with the numbers that it drew injected."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.parity.case import Case, Check
from tools.parity.options import config_of_case
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.folders import RawVideo, scan
from vid2vid_dist.data.geometry import MIDDLE, Geometry, clip_geometry
from vid2vid_dist.data.images import read_ids_or_rgb
from vid2vid_dist.data.sampling import window
from vid2vid_dist.models.labels import instance_edges

LEVEL = 1 / 255
"""Tolerance of bicubically resized images: one level of 255."""


def check(case: Case) -> list[Check]:
    """Labels, instances and edges bit for bit; images within one level."""
    if case.frames is None:
        raise FileNotFoundError("this case reads video frames: pass FRAMES=folder")
    config = config_of_case(case.options)
    checks = _training(case, config) if "sequences" in case.meta else _testing(case, config)
    return list(checks)


def _training(case: Case, config: Config) -> Iterator[Check]:
    """Clips: every frame of a clip is cut by the clip's own draws."""
    stored, stride = case.tensors(), case.meta.get("stored_subsampling", 1)
    for sequence in case.meta["sequences"]:
        draws, name = sequence["draws"], f"seq{sequence['seq']}"
        video, last = _find(case, config, sequence["last_A_path"])
        yield _arithmetic(f"{name} sizes", draws, config)
        expected = draws["n_frames_read"]
        chunk_frames = config.schedule.max_frames_per_rank * config.schedule.n_generator_slots
        read = window(
            video.n_frames,
            config.schedule.n_frames_total,
            chunk_frames,
            config.generator.n_frames_G,
            config.data.max_t_step,
            0.0,
            0.0,
        ).n_frames
        frames = [draws["start_idx"] + i * draws["t_step"] for i in range(expected)]
        yield Check(f"{name} frames read", abs(read - expected) + abs(frames[-1] - last), 0)
        geometry = _geometry(draws, may_flip=not config.data.no_flip)
        ours = {
            key: torch.cat([_load(video, modality, i, geometry) for i in frames])
            for key, modality in _modalities(sequence)
        }
        if "inst" in ours:
            ours["edges"] = instance_edges(ours["inst"]).to(torch.uint8)
        for key, tensor in ours.items():
            thin = tensor[:, ::stride, ::stride]
            yield _compare(
                f"{name}.{key}",
                tensor,
                sequence.get(f"sha256_{key}_u8"),
                thin,
                stored.get(f"{name}.{key}_u8"),
                exact=key != "B" and config.data.label_nc > 0,
            )


def _testing(case: Case, config: Config) -> Iterator[Check]:
    """A sliding window of n_frames_G frames: one frame is read per call, the others are kept from before."""
    stored, n = case.tensors(), config.generator.n_frames_G
    windows: dict[str, list[Tensor]] = {}
    before: RawVideo | None = None
    for call in case.meta["calls"]:
        name = f"call{call['call']:02d}"
        video, last = _find(case, config, call["A_path"])
        yield _arithmetic(f"{name} sizes", call["draws"], config)
        changed = before is not None and video.name != before.name
        yield Check(f"{name} change_seq", float(changed != call["change_seq"]), 0)
        geometry = _geometry(call["draws"], may_flip=False)
        fresh = [last] if before is not None and not changed else list(range(last - n + 1, last + 1))
        for key, modality in _modalities(call):
            kept = windows.get(key, []) + [_load(video, modality, i, geometry) for i in fresh]
            windows[key] = kept[-n:]
            reference = stored.get(f"{name}.{key}_u8", stored.get(f"{name}.{key}_u8.newest_frame"))
            whole = torch.cat(windows[key])
            shown = whole if reference is None else whole[-reference.shape[0] :]
            yield _compare(
                f"{name}.{key}",
                whole,
                call[f"sha256_{key}"],
                shown,
                reference,
                exact=key != "B" and config.data.label_nc > 0,
            )
        before = video


def _find(case: Case, config: Config, label_path: str) -> tuple[RawVideo, int]:
    """The video and the number of the frame that the original names by its label file."""
    assert case.frames is not None
    path = Path(label_path)
    split = path.parts[0].rpartition("_")[0]
    video = next((v for v in scan(case.frames, split) if v.name == path.parent.name), None)
    if video is None:
        raise FileNotFoundError(f"{case.frames} lacks {path.parent}")
    if not config.data.label_nc:  # RGB input: the original was given the photographs as its A folder
        video = RawVideo(video.name, {**video.files, "labels": video.files["images"]})
    return video, [file.stem for file in video.files["labels"]].index(path.stem)


def _modalities(record: dict[str, Any]) -> list[tuple[str, str]]:
    """The original's names of the modalities that a record has a hash of, and ours."""
    present = {key.split("_")[1] for key in record if key.startswith("sha256_")}
    return [
        (key, modality)
        for key, modality in (("A", "labels"), ("B", "images"), ("inst", "instances"))
        if key in present
    ]


def _load(video: RawVideo, modality: str, frame: int, geometry: Geometry) -> Tensor:
    path = video.files[modality][frame]
    return torch.tensor(geometry.apply(read_ids_or_rgb(path.read_bytes(), str(path))))


def _geometry(draws: dict[str, Any], may_flip: bool) -> Geometry:
    new_size, crop_size, crop_pos = (tuple(draws[key]) for key in ("new_size", "crop_size", "crop_pos"))
    return Geometry(new_size, crop_size, crop_pos, draws["flip"] and may_flip)


def _arithmetic(what: str, draws: dict[str, Any], config: Config) -> Check:
    """Sizes that no chance enters must come out the same."""
    width, height = draws["input_size_wh"]
    ours = clip_geometry((width, height), config.data, MIDDLE)
    wrong = list(ours.crop_size) != draws["crop_size"]
    if "randomScale" not in config.data.resize_or_crop:
        wrong |= list(ours.new_size) != draws["new_size"]
    return Check(what, float(wrong), 0)


def _compare(
    what: str, ours: Tensor, digest: str | None, shown: Tensor, stored: Tensor | None, exact: bool
) -> Check:
    """Equal hashes are an error of 0; otherwise the largest difference of what is stored, 1 if nothing is."""
    tolerance = 0.0 if exact else LEVEL
    if digest == hashlib.sha256(np.ascontiguousarray(ours.to(torch.uint8).numpy()).tobytes()).hexdigest():
        return Check(what, 0.0, tolerance)
    if stored is None or shown.shape != stored.shape:
        return Check(what, 1.0, tolerance)
    difference = float((shown.int() - stored.int()).abs().max()) / 255
    return Check(what, difference or float(exact), tolerance)
