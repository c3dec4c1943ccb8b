"""The options of a golden case, a whole command line of the original's, as our configuration."""

from typing import Any

from vid2vid_dist.config.schema import Config
from vid2vid_dist.original.options import SAME, config_from_options, integers

READ = frozenset({*SAME, "fg_labels", "n_gpus_gen", "dataset_mode"})
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


def config_of_case(options: dict[str, Any]) -> Config:
    """Our configuration, not passed through `Config.check`: cases use networks that are too small to be useful.

    Raises:
        ValueError: an option that neither table knows.
    """
    given = dict(options)
    for name, value in options.items():
        if name not in READ | ELSEWHERE | {"gpu_ids", "ngf_option"}:
            raise ValueError(f"unknown option of the original: {name}={value!r}")
    if "ngf_option" in given:
        given["ngf"] = given["ngf_option"]
    if given.get("n_gpus_gen", -1) == -1:  # which the original counts before it writes opt.txt
        given["n_gpus_gen"] = len(integers(given.get("gpu_ids", "0")))
    return config_from_options(given)
