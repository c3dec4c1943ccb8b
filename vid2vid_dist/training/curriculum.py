"""What holds in which epoch: clip length, chunk length, gradient reach, trained scales, learning rates.

A pure function of (configuration, epoch, longest video), so that a resumed run continues exactly where it was
and nothing of it has to be saved (spec: training_schedule 5, losses 7).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from vid2vid_dist.config.schema import Config, OptimConfig
from vid2vid_dist.engine.plan.role import RateGroup

BETA2 = 0.999  # Adam's second decay
TTUR_BETAS = (0.0, 0.9)
LONGEST_CLIP = 128  # frames, given ones included; the original's cap


@dataclass(frozen=True)
class AdamSettings:
    """Adam without weight decay, eps 1e-8 (spec: losses 7)."""

    lr: float
    betas: tuple[float, float]

    def __call__(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, fused=True)


@dataclass(frozen=True)
class Phase:
    """The values in force during one epoch (epochs count from 1)."""

    n_frames_total: int  # generated frames that a clip may have; a short video gives fewer
    chunk_frames: int  # generated frames per optimiser step, T
    n_frames_bp: int  # previous frames are detached at every so many frames of a chunk
    train_all_scales: bool  # False: only the finest scale of the generator is trained
    rates: Mapping[RateGroup, AdamSettings]  # the temporal one never decays, as in all published results


def n_epochs(cfg: Config) -> int:
    return cfg.schedule.niter + cfg.schedule.niter_decay


def phase(cfg: Config, epoch: int, longest: int) -> Phase:
    """The phase of an epoch in 1..n_epochs; `longest` is the number of frames of the longest video."""
    schedule, optim = cfg.schedule, cfg.optim
    cap = min(LONGEST_CLIP, longest) - (cfg.generator.n_frames_G - 1)
    n_frames_total, n_frames_bp = schedule.n_frames_total, 1
    per_slot = min(schedule.max_frames_per_rank, schedule.n_frames_total // schedule.n_generator_slots)
    for doubling in range(1, (epoch - 1) // schedule.niter_step + 1):
        if n_frames_total < cap:
            n_frames_total = min(cap, schedule.n_frames_total * 2**doubling)
        chunk = per_slot * schedule.n_generator_slots
        if n_frames_bp < chunk:  # reach divides the chunk as it was before it grew: the original's order
            n_frames_bp = chunk // math.ceil(chunk / min(schedule.max_frames_backpropagate, 2**doubling))
        per_slot = min(2 * per_slot, schedule.max_frames_per_rank)

    past_fix = epoch > schedule.niter_fix_global
    switched = cfg.generator.n_scales_spatial > 1 and schedule.niter_fix_global > 0 and past_fix
    decays = max(0, epoch - 1 - schedule.niter)  # the first decay comes at the end of epoch niter + 1
    full = scaled_rate(cfg)
    lr = full * (1 - decays / schedule.niter_decay) if decays else full
    betas = (optim.beta1, BETA2)
    two_rates = optim.TTUR and not decays  # the first decay ends the two rates
    return Phase(
        n_frames_total=n_frames_total,
        chunk_frames=min(per_slot * schedule.n_generator_slots, n_frames_total),
        n_frames_bp=n_frames_bp,
        train_all_scales=cfg.generator.n_scales_spatial == 1 or past_fix,
        rates={
            RateGroup.GENERATOR: AdamSettings(lr / 2 if two_rates and not switched else lr,
                                              TTUR_BETAS if optim.TTUR and not switched else betas),
            RateGroup.DISCRIMINATOR: AdamSettings(lr * 2 if two_rates else lr, TTUR_BETAS if optim.TTUR else betas),
            RateGroup.TEMPORAL: AdamSettings(full, betas),
        },
    )


def scaled_rate(cfg: Config) -> float:
    """The learning rate at the start, as `optim.lr_scaling` makes it of the clips that a step averages over."""
    n_clips = cfg.parallel.clips_per_step or 1
    return cfg.optim.lr * {"none": 1.0, "linear": n_clips, "sqrt": math.sqrt(n_clips)}[cfg.optim.lr_scaling]


def warmth(optim: OptimConfig, step: int) -> float:
    """What the learning rates of a phase are multiplied by in a step; steps count from 1."""
    return min(1.0, step / optim.warmup_steps) if optim.warmup_steps else 1.0
