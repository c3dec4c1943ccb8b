"""Steps, generation and plans of this code, and of commits with the same interfaces."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tools.bench import Both
from vid2vid_dist.cli.ranks import open_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.bound import lower_bound
from vid2vid_dist.engine.plan.costs import count_costs
from vid2vid_dist.engine.plan.search import PlanRequest, choose
from vid2vid_dist.engine.plan.step_graph import step_graph
from vid2vid_dist.engine.roles.build import role_specs
from vid2vid_dist.inference.video_generator import VideoGenerator as VideoGenerator  # for the worker
from vid2vid_dist.models import convolution
from vid2vid_dist.training.curriculum import LONGEST_CLIP, n_epochs, phase


def training(config: str, overrides: list[str], frames: Frames) -> Callable[[], object]:
    """A step of all roles, which are updated, on the first chunk of a clip."""
    cfg = load_config(config, overrides)
    n_frames = len(frames.names) - cfg.generator.n_frames_G + 1
    return Both(cfg, replace(phase(cfg, 1, LONGEST_CLIP), chunk_frames=n_frames), frames, open_grid("cpu")).our_step


def as_on_a_gpu() -> None:
    """Leave out the other forms of convolutions that a CPU is given."""
    convolution.takes_other_forms = lambda x: False


def planned(config: str, size: tuple[int, int], n_lanes: int) -> dict[str, Any]:
    """The step of the last epoch on 8 GPUs as the recipe places it, what no plan can beat, and seconds to find it;
    bars: slot, start, end, role and kind of each task."""
    cfg = load_config(config)
    specs, last = role_specs(cfg), phase(cfg, n_epochs(cfg), LONGEST_CLIP)
    costs = count_costs(specs, size[1], size[0])
    started = time.process_time()
    choice = choose(specs, costs, PlanRequest(8, n_lanes, last.chunk_frames, cfg.parallel.placement,
                                              n_frames_bp=last.n_frames_bp))
    seconds = time.process_time() - started
    bound = lower_bound(step_graph(choice.plan.tasks, choice.plan.layout, costs, choice.n_pipelines))
    return {"step": choice.prediction.period, "busy": choice.prediction.mean_busy, "seconds": seconds,
            "step bound": bound.step, "busy bound": bound.busy,
            "bars": [(run.slot, run.start, run.end, run.task.role, run.task.kind)
                     for run in choice.prediction.timeline]}
