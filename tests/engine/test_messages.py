"""Both ends of a message expect the same: shapes follow from the configuration, contents from the plan."""

from __future__ import annotations

from math import prod

import pytest
import torch
from vid2vid_dist.engine.plan.messages import FrameSize, Part, dtype_of, message_parts, shape_of

from tests.engine.spread_clips import SMALL
from vid2vid_dist.config.load import load_config
from vid2vid_dist.engine.plan.costs import count_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import split
from vid2vid_dist.engine.plan.schedule import Strategy, Transfer, make_plan
from vid2vid_dist.engine.plan.tasks import Kind, steady_shape


@pytest.mark.parametrize("overrides", [
    (), ("generator.n_scales_spatial=3",), ("generator.no_flow=true",), ("generator.n_downsample_G=3",),
    ("parallel.batch_size=2",),
], ids=str)
def test_shapes_are_those_of_the_networks(overrides: tuple[str, ...]) -> None:
    """The cost model counts the bytes of tensors that the networks made."""
    cfg = load_config(None, [*SMALL, "generator.ngf=8", *overrides])
    costs = count_costs(cfg, 64, 128)
    size = FrameSize(cfg.parallel.batch_size, 64, 128)
    finest = f"features/{cfg.generator.n_scales_spatial - 1}"
    for name, n_bytes in costs.tensors.items():
        if not name.endswith(finest):  # the finest scale's stay where they are
            assert prod(shape_of(cfg, name, size)) * dtype_of(name, torch.float32).itemsize == n_bytes, name


def test_reference_flow_is_never_narrow() -> None:
    assert dtype_of("reference", torch.bfloat16) == torch.float32
    assert dtype_of("skipped_flow", torch.float64) == torch.float64
    assert dtype_of("image/0", torch.bfloat16) == torch.bfloat16


def test_gradients_go_to_the_frames_of_their_reader_only() -> None:
    """A discriminator of four frames sends each of two generator ranks the gradients of its own two."""
    cfg = load_config(None, SMALL)
    plan = make_plan(step_tasks(cfg, steady_shape(1, 4)), split(cfg, 2, 1), count_costs(cfg, 32, 64),
                     strategy=Strategy(split_scales=False))
    parts = message_parts(plan)
    transfers = {(item.producer, item.destination) for item in plan.sequence if isinstance(item, Transfer)}
    assert parts.keys() == transfers
    (discriminator,) = (task.number for task in plan.tasks if task.kind == Kind.IMAGE_FAKE)
    sent = [{part.frame for part in parts[discriminator, slot] if part.name == "grad_raw"} for slot in (0, 1)]
    backwards = [{task.frames[0] for task in plan.tasks if task.kind in (Kind.BACKWARD, Kind.FOREGROUND_BACKWARD)
                  and task.scale == 1 and task.site is not None and plan.placement[task.site] == slot}
                 for slot in (0, 1)]
    assert sent == backwards
    assert sent[0] | sent[1] == {0, 1, 2, 3}
    assert Part("grad_raw") not in parts[discriminator, 0]
