"""Faces and bodies drawn from keypoints as the original's loader does, through raw folders and shards.

The numbers that the original drew are injected. Its random numbers of a frame come in the order in which ours are
taken, so a body's can be played back.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tools.parity.case import Case, Check
from tools.parity.data import LEVEL
from tools.parity.options import config_of_case
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.clips import ClipSource
from vid2vid_dist.data.geometry import MIDDLE, Geometry
from vid2vid_dist.data.inputs import FrameFiles, frame_geometry
from vid2vid_dist.data.sampling import window
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.data.tasks.face import completed, part_labels
from vid2vid_dist.data.tasks.pose import central_half
from vid2vid_dist.data.tasks.registry import TASKS

SUFFIXES = {"keypoints": ".txt", "img_png_bytes": ".png", "densepose_png_bytes": ".png", "openpose_json_utf8": ".json"}


class Replay:
    """Gives back the uniform numbers that the original drew, and the normal ones that it drew between them."""

    def __init__(self, seed: int, uniform: list[float], has_normal: bool) -> None:
        self._uniform, self._has_normal = iter(uniform), has_normal
        stream = np.random.RandomState(seed).random_sample(100)  # where the geometry's numbers end and these begin
        self._twin = np.random.RandomState(seed)
        self._twin.random_sample(int(np.abs(stream - uniform[0]).argmin()))

    def random(self, n: int | None = None) -> Any:
        self._twin.random_sample(n)
        return next(self._uniform) if n is None else np.array([next(self._uniform) for _ in range(n)])

    def normal(self, mean: float, spread: float, shape: Any) -> np.ndarray:
        return self._twin.normal(mean, spread, shape) if self._has_normal else np.zeros(shape)


def check(case: Case) -> list[Check]:
    """Inputs within the share of pixels that the case states, part labels exactly, images within one level."""
    config = config_of_case(case.options)
    with tempfile.TemporaryDirectory() as folder:
        split = case.meta["calls"][0]["A_path"].partition("_")[0]
        _write(case, Path(folder) / "raw", config.data.task, split)
        make_shards(Path(folder) / "raw", Path(folder) / "shards", PackOptions(task=config.data.task))
        config.data.shards = str(Path(folder) / "shards")
        source = ClipSource(config.data, config.generator.n_frames_G, 0, split)
        return list(_calls(case, config, source))


def _write(case: Case, raw: Path, task: str, split: str) -> None:
    """The case's input files in the raw layout."""
    modalities = TASKS[task].modalities
    for name, tensor in case.tensors().items():
        if name.startswith("in."):
            _, sequence, frame, kind = name.split(".")
            ending = modalities["images" if kind.startswith("img") else kind.partition("_")[0]].folder
            number = int(frame.removeprefix("frame"))
            path = raw / f"{split}_{ending}" / f"{int(sequence.removeprefix('seq')):04d}/{number:05d}{SUFFIXES[kind]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "keypoints":
                path.write_text("".join(f"{x},{y}\n" for x, y in tensor.tolist()))
            else:
                path.write_bytes(tensor.numpy().tobytes())


def _calls(case: Case, config: Config, source: ClipSource) -> Iterator[Check]:
    stored = case.tensors()
    spread = case.meta["tolerance_measured"]["effect_of_replacing_the_iterative_curve_fit_by_a_closed_form"]
    first_box = None
    for call in case.meta["calls"]:
        name, draws = f"call{call['call']}", call["draws"]
        video = int(call["A_path"].split("/")[1])
        files = [FrameFiles(source.index, video, draws["start_idx"] + i * draws["t_step"])
                 for i in range(draws["n_frames_read"])]
        ours = frame_geometry(files[0], config.data, MIDDLE, may_flip=False)
        first_box = first_box or ours.source  # the original never moves the box after the first video
        if first_box:
            yield Check(f"{name} crop box", float(list(first_box) != call["crop_box_xyxy"]), 0)
        else:
            yield from _sampling(name, case, config, source, call)
        geometry = _geometry(call, config, first_box, source.split == "train")
        rng = _replay(call, config)
        inputs = torch.from_numpy(np.concatenate([source.task.draw(f, config.data, geometry, rng) for f in files]))
        images = torch.from_numpy(np.concatenate([geometry.apply(f.picture("images")) for f in files]))
        found = {"A_u8": inputs, "B_u8": images}
        if first_box:
            found["edges_u8"] = inputs[:: config.data.input_nc]
            found["inst_u8"] = torch.from_numpy(np.concatenate([
                geometry.apply_nearest(Image.fromarray(part_labels(completed(f.content("keypoints")), f.size)))
                for f in files]))
        for full_name in (key for key in stored if key.startswith(f"{name}.")):
            key, _, part = full_name.partition(".")[2].partition("@")
            thin = found[key][:, ::2, ::2] if part else found[key]
            if key == "B_u8":
                yield Check(full_name, float((thin.int() - stored[full_name].int()).abs().max()) / 255, LEVEL)
            else:
                measured = spread.get(f"{name}.{key}", spread.get(f"{name}.{key.removesuffix('_u8')}"))
                yield Check(full_name, _changed(thin, stored[full_name]), measured["fraction_changed"])


def _sampling(name: str, case: Case, config: Config, source: ClipSource, call: dict[str, Any]) -> Iterator[Check]:
    """The length of an epoch, and where a clip begins (when its frames follow each other)."""
    yield Check(f"{name} clips of an epoch", abs(source.n_clips - case.meta["len_dataset"]), 0)
    schedule, draws = config.schedule, call["draws"]
    if source.split == "train":
        chunk_frames = schedule.max_frames_per_rank * schedule.n_generator_slots
        place = window(len(source.index.videos[0].frames), schedule.n_frames_total, chunk_frames,
                       config.generator.n_frames_G, draws["t_step"], 0.999, 0.0, call["index"])
        yield Check(f"{name} start", abs(place.start - draws["start_idx"]), 0)


def _geometry(call: dict[str, Any], config: Config, box: Any, training: bool) -> Geometry:
    draws = call["draws"]
    new_size, crop_size, crop_pos = (tuple(draws[key]) for key in ("new_size", "crop_size", "crop_pos"))
    flip = draws["flip"] and training and not config.data.no_flip
    geometry = Geometry(new_size, crop_size, crop_pos, flip and config.data.task == "face", box)
    return geometry if config.data.task == "face" else central_half(geometry)


def _replay(call: dict[str, Any], config: Config) -> Any:
    recorded = call.get("np_random_rand_sequence")
    return Replay(call["seed"], recorded, config.data.remove_face_labels) if isinstance(recorded, list) else None


def _changed(ours: Tensor, stored: Tensor) -> float:
    """Share of values that differ."""
    return float("inf") if ours.shape != stored.shape else float((ours != stored).double().mean())
