"""opt.txt, the options that the original writes beside its weights <-> our configuration (spec: networks 10)."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vid2vid_dist.config.options import options
from vid2vid_dist.config.schema import Config, DataConfig
from vid2vid_dist.data.tasks.registry import TASKS
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import read_text, shown

MAX_BYTES = 2**20
MODES = {"street": "temporal"}  # tasks that have another name as dataset_mode
FIXED = {"netG": "composite", "output_nc": 3}  # options of which the program knows one value

# Option of the original -> our key, where the values mean the same.
SAME: dict[str, str] = {
    **{name: f"data.{name}" for name in (
        "label_nc", "input_nc", "use_instance", "resize_or_crop", "loadSize", "fineSize", "no_flip",
        "max_t_step", "no_canny_edge", "no_dist_map", "random_scale_points", "densepose_only", "openpose_only",
        "remove_face_labels", "random_drop_prob", "basic_point_only")},
    **{name: f"generator.{name}" for name in (
        "n_frames_G", "n_scales_spatial", "ngf", "n_blocks", "n_blocks_local", "n_downsample_G", "n_local_enhancers",
        "norm", "fg", "no_flow", "no_first_img")},
    **{name: f"discriminator.{name}" for name in (
        "ndf", "num_D", "n_layers_D", "n_frames_D", "n_scales_temporal", "sparse_D", "add_face_disc")},
    **{name: f"loss.{name}" for name in ("lambda_feat", "lambda_F", "lambda_T", "no_ganFeat", "no_vgg")},
    **{name: f"optim.{name}" for name in ("lr", "beta1", "TTUR")},
    **{name: f"schedule.{name}" for name in (
        "niter", "niter_decay", "niter_step", "niter_fix_global", "n_frames_total",
        "max_frames_backpropagate")},
    "batchSize": "parallel.batch_size",
    "max_frames_per_gpu": "schedule.max_frames_per_rank",
}


def read_options(path: Path) -> Config:
    """Our configuration from the lines `name: value` of opt.txt.

    Raises `UserError` for a file that is none, and for a network that does not exist here.
    """
    try:
        lines = read_text(path, MAX_BYTES).splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    written = {name.strip(): _literal(value.strip()) for name, value in pairs}
    for name, value in FIXED.items():
        if written.get(name, value) != value:
            raise UserError(f"{path}: {name}={shown(written[name])} is not known here: use what was "
                            f"trained with {name}={value}")
    try:
        cfg = config_from_options(written)
        known = options()
        given = [SAME[name] for name in written if name in SAME]
        for key in (*given, "generator.fg_labels", "schedule.n_generator_slots"):
            known[key].set(cfg, known[key].convert(known[key].get(cfg), is_text=False))
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: {shown(error, 200)}: correct this option") from None
    cfg.generator.no_flow |= bool(written.get("openpose_only"))  # which the original sets after writing opt.txt
    return cfg


def write_options(cfg: Config, path: Path) -> None:
    """opt.txt of a configuration: the options that have a meaning in both programs."""
    known = options()
    values: dict[str, Any] = {name: known[key].get(cfg) for name, key in SAME.items()}
    values |= {"dataset_mode": MODES.get(cfg.data.task, cfg.data.task),
               "fg_labels": cfg.generator.fg_labels, "n_gpus_gen": cfg.schedule.n_generator_slots, **FIXED}
    lines = [f"{name}: {value}" for name, value in sorted(values.items())]
    framed = ["------------ Options -------------", *lines, "-------------- End ----------------"]
    path.write_text("\n".join(framed) + "\n")


def config_from_options(given: Mapping[str, Any]) -> Config:
    """Our configuration for the original's options, unchecked; what is not given takes the original's default, and
    what has no meaning here is passed over: `gan_mode`, too, for whose every value it computes least squares."""
    config, known = Config(), options()
    config.data.label_nc = 0
    for name, key in SAME.items():
        if name in given:
            known[key].set(config, given[name])
    mode = str(given.get("dataset_mode"))
    config.data.task = mode if mode in TASKS else DataConfig.task
    labels = given.get("fg_labels", [26])
    config.generator.fg_labels = labels if isinstance(labels, list) else integers(labels)
    # Frames of one clip are spread over the generator GPUs only when a step holds one clip (schedule 2).
    slots = given.get("n_gpus_gen", 1)  # 0 of a run on the CPU, -1 = all, which the original counts before it writes
    config.schedule.n_generator_slots = 1 if slots in (0, -1) or given.get("batchSize", 1) != 1 else slots
    config.discriminator.face_marker = "openpose" if given.get("openpose_only") else "densepose"
    return config


def integers(text: str | int) -> list[int]:
    """A comma list of the original; negative entries are dropped, as there."""
    return [number for number in map(int, str(text).split(",")) if number >= 0]


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last three: brackets in brackets
        return text
