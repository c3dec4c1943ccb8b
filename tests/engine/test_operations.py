"""How much a step asks of the device: few operations, however many tensors a role has."""

from collections import Counter

import pytest
import torch

from tests.training.conftest import grid as grid
from tools.bench_step import configured
from tools.lanes import clip_of
from tools.operations import Operations
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated
from vid2vid_dist.engine.plan.schedule import in_order
from vid2vid_dist.engine.plan.tasks import LaneChunk, StepShape
from vid2vid_dist.engine.roles.build import build_frozen, build_modules, build_roles, role_specs
from vid2vid_dist.engine.run.executor import Executor
from vid2vid_dist.engine.run.grid import Grid
from vid2vid_dist.engine.run.tensor_store import LanePart
from vid2vid_dist.engine.run.transport import Transport
from vid2vid_dist.models import convolution
from vid2vid_dist.models.precision import DTYPES
from vid2vid_dist.training.curriculum import phase

WIDTH, HEIGHT = 256, 128
ALL_AND_MORE = 1200
"""Of a step of the recipe for 512 on one frame of 256x128, computed as on a GPU. Of these 715 are
convolutions, norms, paddings and activations, which nothing joins without a compiler; an operation per parameter
anywhere would add 300."""


@pytest.fixture(autouse=True)
def computed_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "takes_other_forms", lambda x: False)


def operations(grid: Grid, *overrides: str) -> Counter[str]:
    """Of the second step on one frame, by task, reduction and update."""
    cfg = configured(512, 4, ["run.device=cpu", "optim.label_conv=dense", *overrides])
    specs, chunk, n = role_specs(cfg), LaneChunk(0, 1), cfg.generator.n_frames_G
    shape, layout = StepShape((chunk,)), colocated(specs, 1)
    plan = in_order(step_tasks(specs, shape, whole_chunks=True), layout)
    roles = build_roles(specs, grid.holders(layout.slots), build_modules(specs), build_frozen(specs),
                        phase(cfg, 1, n).rates)
    executor = Executor(roles, specs.shapes(), 0, Transport(grid), DTYPES[cfg.optim.precision], specs.buckets)
    labels = torch.arange(HEIGHT).view(1, 1, HEIGHT, 1).expand(n, 1, HEIGHT, WIDTH) // 16
    pictures = torch.arange(n * 3 * HEIGHT * WIDTH).view(n, 3, HEIGHT, WIDTH) % 251
    frames = Frames(labels.byte(), pictures.byte(), labels.int(), [str(i) for i in range(n)], torch.zeros(1, 2, HEIGHT,
                                                                                                          WIDTH))
    for _ in range(2):
        with Operations(executor.timer) as counted:
            executor.step(plan, shape, [LanePart(clip_of(cfg, [frames], grid.device), 1, 1.0)], specs.active(chunk))
    for engine in executor.engines().values():
        engine.close()
    return counted.of_span


@pytest.mark.parametrize("backend", ["plain", "zero"])
def test_reductions_and_updates_take_as_many_operations_however_deep_networks_are(grid: Grid, backend: str) -> None:
    shallow, deep = (operations(grid, f"optim.backend={backend}", f"generator.n_blocks={n}") for n in (2, 9))
    tasks = {name: n for name, n in deep.items() if not name.startswith(("reduce ", "update "))}
    assert all(shallow[name] == n for name, n in deep.items() if name not in tasks)
    assert sum(tasks.values()) > sum(shallow[name] for name in tasks)
    assert sum(deep.values()) < ALL_AND_MORE
