"""The original's test program: frames generated one after the other, and the pictures that it writes."""

import torch
from torch import Tensor

from tools.parity.case import Case, Check
from tools.parity.compare import load_exactly, relative_error, starting_with, thin
from tools.parity.generator import single_image_network
from tools.parity.options import config_of_case
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.data.images import to_float
from vid2vid_dist.inference.video_generator import VideoGenerator
from vid2vid_dist.models.generator import Generator
from vid2vid_dist.models.labels import encode_labels
from vid2vid_dist.monitor.pictures import colorize_labels, image_pictures

LEVELS = 1.0  # generated pictures are truncated to uint8: a rounding error may cross a level


def check(case: Case) -> list[Check]:
    tensors, cfg = case.tensors(), config_of_case(case.options)
    assert cfg.data.label_nc, "cases without label maps are not stored"
    weights = {name.replace("sd.G", "sd.netG", 1): t for name, t in starting_with(tensors, "sd.G").items()}
    generator = load_exactly(Generator(cfg), weights)
    video = VideoGenerator(generator, cfg, torch.device("cpu"), torch.float64)
    spread = case.meta["tolerance_measured"]["float_abs_f32_vs_f64_worst"]
    checks = []
    for frame in case.meta["frames"]:
        prefix = f"frame{frame['frame']}."
        stored = starting_with(tensors, prefix)
        window = _window(stored, prefix)
        if frame["history_restarted"]:
            video.start([window.part(slice(0, -1))], _first_images(case, window, tensors))
        fake = video.step([window.part(slice(-1, None))]).fake[0]
        labels = colorize_labels(window.labels[-1:], cfg.data.label_nc)
        compared = {
            "fake_float": (fake[0], 2 * spread),
            "fake_u8_hwc": (torch.from_numpy(image_pictures(fake)[0]), LEVELS),
            "real_A_vis_u8_hwc": (torch.from_numpy(labels[0]), 0.0),
        }
        for full_name, expected in stored.items():
            name, _, part = full_name.removeprefix(prefix).partition("@")
            if name in compared:
                ours, tolerance = compared[name]
                checks.append(Check(full_name, relative_error(thin(ours, part), expected, 1.0), tolerance))
    return checks


def _window(stored: dict[str, Tensor], prefix: str) -> Frames:
    """The n_frames_G frames that the step saw, the current one last."""
    labels, instances = stored[f"{prefix}in.A_u8"], stored.get(f"{prefix}in.inst_u8")
    return Frames(
        labels=labels[:, None],
        images=stored.get(f"{prefix}in.B_u8"),
        instances=None if instances is None else instances[:, None].int(),
        names=[""] * len(labels),
    )


@torch.no_grad()
def _first_images(case: Case, window: Frames, tensors: dict[str, Tensor]) -> Tensor | None:
    """What the video starts from: nothing, the real frames, or frames of the single-image generator."""
    if case.options.get("no_first_img"):
        return None
    if window.images is not None:
        return to_float(window.images[None, :-1], torch.float64)
    options = case.meta["single_image_generator"]
    network = load_exactly(single_image_network(options, options["input_nc"]), tensors, "sd.singleG.")
    labels = encode_labels(window.labels[None, :-1], None, options["input_nc"], torch.float64).dense()[0]
    return torch.cat([network(frame[None]) for frame in labels])[None]
