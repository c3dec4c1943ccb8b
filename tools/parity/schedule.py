"""What holds in which epoch, against the original's tables.

The generator's learning rate is compared with the optimiser that the original made for it; its loop went on
stepping another one after the finest-only epochs (spec: quirks Q3).
"""

from typing import Any

from tools.parity.case import Case, Check, parse_args
from tools.parity.options import config_of_case
from vid2vid_dist.config.schema import Config
from vid2vid_dist.data.sampling import window
from vid2vid_dist.engine.plan.role import RateGroup
from vid2vid_dist.models.temporal import temporal_plan
from vid2vid_dist.training.curriculum import phase

RATE = 1e-12  # of learning rates, relative


def check(case: Case) -> list[Check]:
    return [c for table in case.meta["tables"] for c in _check_table(table)]


def _check_table(table: dict[str, Any]) -> list[Check]:
    cfg = config_of_case(parse_args(table["args"]))
    cfg.generator.n_frames_G, cfg.discriminator.n_frames_D = table["tG"], table["tD"]
    checks = []
    for row in table["epochs"]:
        wanted, rates = _recorded(row)
        got, our_rates = _ours(cfg, row["epoch"], table["longest_sequence_length"], len(rates["lr_D_T"]))
        for key, value in wanted.items():
            checks.append(Check(f"{table['name']} epoch {row['epoch']} {key}", float(got[key] != value), 0.0))
        error = max(
            abs(a - b) / max(a, 1e-30) for key in rates for a, b in zip(rates[key], our_rates[key], strict=True)
        )
        checks.append(Check(f"{table['name']} epoch {row['epoch']} learning rates", error, RATE))
    return checks


def _recorded(row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[float]]]:
    starts, active = row["chunk_starts"], row["t_scales_active_per_chunk"]
    if isinstance(starts, dict):  # long lists are stored in short
        starts = list(range(0, starts["count"] * starts["step"], starts["step"]))
    if isinstance(active, dict):
        active = active["first_40"] + [active["last"]] * (len(starts) - len(active["first_40"]))
    wanted = {key: row[key] for key in ("finetune_all", "frames_read", "t_len", "n_frames_bp")}
    wanted |= {
        "clip length": row["dataset_n_frames_total"],
        "chunk_starts": starts,
        "active temporal scales": active,
    }
    return wanted, {"lr_G": [row["lr_G_in_modelG_optimizer"]], "lr_D": [row["lr_D"]], "lr_D_T": row["lr_D_T"]}


def _ours(cfg: Config, epoch: int, longest: int, n_temporal: int) -> tuple[dict[str, Any], dict[str, list[float]]]:
    now = phase(cfg, epoch, longest)
    n_past = cfg.generator.n_frames_G - 1
    frames = window(longest, now.n_frames_total, now.chunk_frames, cfg.generator.n_frames_G, 1, 0.0, 0.0)
    starts = [i * frames.chunk_frames for i in range(frames.n_chunks)]
    plans = [temporal_plan(cfg.discriminator, seen, frames.chunk_frames) for seen in starts]
    got = {
        "finetune_all": now.train_all_scales,
        "frames_read": frames.n_frames,
        "t_len": now.chunk_frames + n_past,
        "n_frames_bp": now.n_frames_bp,
        "clip length": now.n_frames_total,
        "chunk_starts": starts,
        "active temporal scales": [sum(bool(scale.frames) for scale in plan) for plan in plans],
    }
    return got, {
        "lr_G": [now.rates[RateGroup.GENERATOR].lr],
        "lr_D": [now.rates[RateGroup.DISCRIMINATOR].lr],
        "lr_D_T": [now.rates[RateGroup.TEMPORAL].lr] * n_temporal,
    }
