"""Steps, generation and plans of commit be28d2a, whose engine for one slot was another."""
# mypy: ignore-errors

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from vid2vid_dist.engine.build import build_frozen, build_modules, build_roles
from vid2vid_dist.engine.costs import count_costs
from vid2vid_dist.engine.grid import open_grid
from vid2vid_dist.engine.lane import Lane
from vid2vid_dist.engine.search import PlanRequest, choose
from vid2vid_dist.engine.step import LaneWork, active_roles, train_step
from vid2vid_dist.inference.video import VideoGenerator as VideoGenerator  # for the worker

from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.training.curriculum import LONGEST_CLIP, n_epochs, phase
from vid2vid_dist.training.state import optimizers


def training(config: str, overrides: list[str], frames: Frames) -> Callable[[], object]:
    """As in `tools.performance.now`, like the others."""
    cfg = load_config(config, overrides)
    n_frames = len(frames.names) - cfg.generator.n_frames_G + 1
    now = replace(phase(cfg, 1, LONGEST_CLIP), chunk_frames=n_frames)
    roles = build_roles(cfg, open_grid("cpu"), build_modules(cfg), build_frozen(cfg), optimizers(cfg, now), True)

    def step() -> None:
        lane = Lane(cfg, torch.device("cpu"), torch.float32)
        train_step(roles, [LaneWork(lane, lane.feed([frames]), 1.0)], active_roles(cfg, 0, n_frames), now.n_frames_bp,
                   detach_coarse=False)

    return step


def as_on_a_gpu() -> None:
    """A CPU is given the same operations."""


def planned(config: str, size: tuple[int, int], n_lanes: int) -> dict[str, Any]:
    cfg = load_config(config)
    last, costs = phase(cfg, n_epochs(cfg), LONGEST_CLIP), count_costs(cfg, size[1], size[0])
    started = time.process_time()
    choice = choose(cfg, costs, PlanRequest(8, n_lanes, last.chunk_frames, cfg.parallel.placement,
                                            n_frames_bp=last.n_frames_bp))
    return {"step": choice.prediction.period, "busy": choice.prediction.mean_busy,
            "seconds": time.process_time() - started,
            "bars": [(run.slot, run.start, run.end, run.task.role, run.task.kind)
                     for run in choice.prediction.timeline]}
