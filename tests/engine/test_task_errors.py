"""A task that fails says which it was; a user's mistake and a rank that is gone keep their own words."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from vid2vid_dist.engine.plan.messages import FrameSize

from tests.engine.spread_clips import CHUNK, HEIGHT, SMALL, WIDTH, clip
from tools.solo_grid import solo_grid
from vid2vid_dist.config.load import load_config
from vid2vid_dist.engine.plan.costs import count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.schedule import make_plan
from vid2vid_dist.engine.plan.tasks import LaneChunk, StepShape
from vid2vid_dist.engine.roles.build import FrozenNetworks, Optimizers, build_held_roles, build_modules
from vid2vid_dist.engine.run.clip import ClipBuffer
from vid2vid_dist.engine.run.executor import Executor, TaskError
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.engine.run.transport import Transport, TransportError
from vid2vid_dist.errors import LostRankError, UserError
from vid2vid_dist.network_input import encode_inputs, encode_pictures
from vid2vid_dist.training.curriculum import AdamSettings


class BrokenFlow(torch.nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, current: Tensor, previous: Tensor) -> None:
        raise self.error


@pytest.mark.parametrize(("error", "kind", "words"), [
    (RuntimeError("out of memory"), TaskError, r"step 0, flow lane 0 frame \d scale 0: out of memory"),
    (KeyError(), TaskError, r"step 0, flow lane 0 frame \d scale 0: KeyError"),
    (UserError("no such file"), UserError, r"^no such file$"),
    (TransportError("step 0, rank 0: waiting"), LostRankError, r"^step 0, rank 0: waiting$"),
])
def test_a_failing_task_is_named(error: Exception, kind: type[Exception], words: str) -> None:
    cfg, grid = load_config(None, [*SMALL, "optim.backend=plain"]), solo_grid()
    layout, adam = colocated(cfg, 1), AdamSettings(1e-4, (0.5, 0.999))
    roles = build_held_roles(cfg, dict.fromkeys(layout.slots, grid), build_modules(cfg),
                             FrozenNetworks(BrokenFlow(error), None), Optimizers(adam, adam, adam), True)
    shape = StepShape((LaneChunk(0, CHUNK),))
    plan = make_plan(step_tasks(cfg, shape), layout, count_costs(cfg, HEIGHT, WIDTH))
    buffer = ClipBuffer(cfg.generator.n_scales_spatial, FrameSize(1, HEIGHT, WIDTH))
    numbers = range(1 - cfg.generator.n_frames_G, CHUNK)
    frames = [clip(0, len(numbers))]
    buffer.add_labels(numbers, encode_inputs(cfg, frames, grid.device, torch.float32))
    buffer.add_real(numbers, encode_pictures(frames, grid.device, torch.float32))
    executor = Executor(cfg, roles, 0, Transport(grid), torch.float32)
    with pytest.raises(kind, match=words):
        executor.step(plan, shape, [LanePart(buffer, CHUNK, 1.0)], ["generator", "image"])
