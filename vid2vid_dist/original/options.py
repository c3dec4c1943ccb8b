"""The original's option names -> our configuration."""

from typing import Any

from vid2vid_dist.config.schema import Config

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
    "ngf_option": "generator.ngf",
}

# Options that change no number of the networks, losses or schedule that a case checks, or that the
# module of the kind reads from `Case.options` itself (scale, batch, phase, ...).
ELSEWHERE = frozenset(
    "gan_mode output_nc netG scale batch ngf_this_scale dataroot phase nThreads name model "
    "checkpoints_dir results_dir use_real_img use_single_G start_frame how_many ntest "
    "serial_batches max_dataset_size display_freq display_id display_winsize print_freq save_latest_freq "
    "save_epoch_freq which_epoch debug no_html tf_log "
    "getIntermFeat load_pretrain continue_train "
    "feat_num label_feat load_features nef netE n_downsample_E local_rank pool_size "
    "aspect_ratio fp16".split())


def config_from_options(options: dict[str, Any]) -> Config:
    """Our configuration for the original's options; what is not given takes the original's default.

    The result is not passed through `Config.check`: cases use networks that are too small to be useful.
    `gan_mode` is left at least squares, which is what the original computes for every value.

    Raises:
        ValueError: an option that this table does not know.
    """
    config = Config()
    config.data.label_nc = 0
    mode = options.get("dataset_mode")
    config.data.task = mode if mode in ("face", "pose") else "street"
    for name, value in options.items():
        if name in SAME:
            section, key = SAME[name].split(".")
            setattr(getattr(config, section), key, value)
        elif name not in ELSEWHERE and name not in ("fg_labels", "gpu_ids", "n_gpus_gen", "dataset_mode"):
            raise ValueError(f"unknown option of the original: {name}={value!r}")
    labels = options.get("fg_labels", [26])
    config.generator.fg_labels = labels if isinstance(labels, list) else _integers(labels)
    config.schedule.n_generator_slots = _generator_slots(options)
    config.discriminator.face_marker = "openpose" if options.get("openpose_only") else "densepose"
    return config


def _generator_slots(options: dict[str, Any]) -> int:
    """Frames of one clip are spread over the generator GPUs only when a step holds one clip (schedule 2)."""
    gpus = options.get("n_gpus_gen", -1)
    if gpus == -1:
        gpus = len(_integers(options.get("gpu_ids", "0")))
    return gpus if options.get("batchSize", 1) == 1 else 1


def _integers(text: str | int) -> list[int]:
    """A comma list of the original; negative entries are dropped, as there."""
    return [number for number in map(int, str(text).split(",")) if number >= 0]
