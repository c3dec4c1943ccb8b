"""Both ends of a message expect the same: shapes follow from the configuration, contents from the plan."""

import pytest
import torch

from tests.engine.one_rank import OneRank
from tests.engine.plans import made_up_costs, specs_of
from tests.engine.spread_clips import clip
from tools.lanes import clip_of
from vid2vid_dist.config.schema import FlowConfig
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import colocated, split
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import Strategy, Transfer, make_plan
from vid2vid_dist.engine.plan.tasks import INTO_WEIGHTS, Kind, LaneChunk, StepShape, steady_shape
from vid2vid_dist.engine.plan.tensors import RAW, Part, TensorKind, image, reference
from vid2vid_dist.models.flow import build_flow

CHUNKS = (LaneChunk(0, 4), LaneChunk(4, 4))  # the second has every temporal scale


@pytest.mark.parametrize(("overrides", "precision"), [
    (("discriminator.n_scales_temporal=2", "loss.no_vgg=false"), "bf16"),
    (("generator.n_scales_spatial=1", "generator.fg=false"), "bf16"),
    (("generator.n_scales_spatial=3", "generator.no_flow=true"), "bf16"),
    (("generator.n_downsample_G=3", "generator.no_first_img=true"), "bf16"),
    (("generator.style_nc=3", "parallel.batch_size=2", "discriminator.sparse_D=true"), "bf16"),
    (("generator.style_nc=3", "loss.no_vgg=false"), "fp64"),
], ids=str)
def test_shapes_are_those_of_the_networks(overrides: tuple[str, ...], precision: str) -> None:
    """Of everything that tasks make in the steps of a clip, and of their gradients; nothing else ever travels."""
    rank = OneRank(*overrides, flow=build_flow(FlowConfig(network="dis")), precision=precision)
    n_frames = rank.cfg.generator.n_frames_G - 1 + sum(chunk.n_frames for chunk in CHUNKS)
    clips = clip_of(rank.cfg, [clip(n, n_frames) for n in range(rank.cfg.parallel.batch_size)], torch.device("cpu"))
    shapes, made = rank.specs.shapes(), set[TensorKind]()
    for chunk in CHUNKS:
        rank.step(clips, chunk.n_frames, n_frames_bp=2)
        for (kind, _), x in (made_one for role in rank.roles.values() for made_one in role.made):
            assert (tuple(x.shape), x.dtype) == (shapes[kind].of(clips.size), shapes[kind].dtype(rank.dtype)), kind
            made.add(kind)
    assert made >= travelling(rank.specs)


def travelling(specs: RoleSpecs) -> set[TensorKind]:
    """Kinds of tensors in the messages of these steps where all ranks may run everything."""
    found, costs = set[TensorKind](), made_up_costs(specs)
    for chunk in CHUNKS:
        tasks = step_tasks(specs, StepShape((chunk,), n_frames_bp=2))
        plan = make_plan(tasks, colocated(specs, 8), costs, strategy=Strategy(split_scales=True))
        found |= {part.kind for item in plan.sequence if isinstance(item, Transfer) for part in item.parts}
    finest = image(specs.cfg.generator.n_scales_spatial - 1)
    assert {image(0), finest.gradient, reference()} <= found
    return found


def test_reference_flow_is_never_narrow() -> None:
    shapes = specs_of().shapes()
    assert shapes[reference()].dtype(torch.bfloat16) == shapes[reference(3)].dtype(torch.bfloat16) == torch.float32
    assert shapes[reference()].dtype(torch.float64) == torch.float64
    assert shapes[image(0)].dtype(torch.bfloat16) == torch.bfloat16


def test_bytes_of_a_message_are_those_of_its_tensors() -> None:
    specs = specs_of()
    costs = made_up_costs(specs)
    plan = make_plan(step_tasks(specs, steady_shape(1, 4)), split(specs, 2, 1), costs)
    transfers = [item for item in plan.sequence if isinstance(item, Transfer)]
    assert all(item.n_bytes == sum(costs.tensors[part.kind] for part in item.parts) for item in transfers)
    pairs = [(item.producer, item.destination) for item in transfers]
    assert len(pairs) == len(set(pairs)), "one message for everything that a rank reads of a task"


def test_gradients_go_to_the_frames_of_their_reader_only() -> None:
    """A discriminator of four frames sends each of two generator ranks the gradients of its own two."""
    specs = specs_of(generator__fg=True, generator__n_scales_spatial=2, discriminator__frames_per_pass=0)
    plan = make_plan(step_tasks(specs, steady_shape(1, 4)), split(specs, 2, 1), made_up_costs(specs),
                     strategy=Strategy(split_scales=False))
    (discriminator,) = (task.number for task in plan.tasks if (task.role, task.kind) == ("image", Kind.FAKE))
    found = []
    for slot in (0, 1):
        (sent,) = (item.parts for item in plan.sequence if isinstance(item, Transfer)
                   and (item.producer, item.destination) == (discriminator, slot))
        read = {task.frames[0] for task in plan.tasks if task.role == "generator" and task.kind in INTO_WEIGHTS
                and task.scale == 1 and plan.assignment[task.site] == slot}
        assert set(sent) == {Part(kind.gradient, frame) for kind in (image(1), RAW) for frame in read}
        found += read
    assert sorted(set(found)) == [0, 1, 2, 3]
