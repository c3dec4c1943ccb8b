"""What the tasks of a step wait for."""

from __future__ import annotations

import itertools

import pytest

from tests.engine.plans import config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.tasks import (
    COLLECTIVE,
    INTO_WEIGHTS,
    Kind,
    LaneChunk,
    Site,
    StepShape,
    Task,
    steady_shape,
)

STREET = {"generator__fg": True, "generator__n_scales_spatial": 2, "discriminator__n_scales_temporal": 2}


def by_key(tasks: list[Task]) -> dict[tuple[Kind, tuple[int, ...], int], Task]:
    return {(task.kind, task.frames, task.scale): task for task in tasks}


def ancestors(tasks: list[Task], task: Task) -> set[int]:
    found: set[int] = set()
    waiting = [task.number]
    while waiting:
        for need in tasks[waiting.pop()].needs:
            if need.task not in found:
                found.add(need.task)
                waiting.append(need.task)
    return found


def made_before(cfg: Config, frame: int, scale: int, kind: Kind = Kind.SYNTHESIS) -> set[tuple[int, int]]:
    """(frame, scale) of the synthesis tasks that a task of the only lane waits for, itself left out."""
    tasks = step_tasks(cfg, steady_shape(1, 4))
    task = by_key(tasks)[kind, (frame,), scale]
    found = {(tasks[i].frames[0], tasks[i].scale) for i in ancestors(tasks, task) if tasks[i].kind == Kind.SYNTHESIS}
    return found - {(frame, scale)} if kind == Kind.SYNTHESIS else found


@pytest.mark.parametrize("shape", [
    steady_shape(2, 6),
    steady_shape(3, 4, n_frames_bp=3, in_flight=1),
    StepShape((LaneChunk(0, 4), LaneChunk(4, 2), LaneChunk(9, 0)), ahead=(LaneChunk(4, 4), LaneChunk(0, 1))),
    StepShape((LaneChunk(30, 3),), train_all_scales=False),
])
def test_needs_are_of_earlier_tasks_and_name_tensors_across_sites(shape: StepShape) -> None:
    tasks = step_tasks(config(**STREET, loss__no_vgg=False), shape)
    for number, task in enumerate(tasks):
        assert task.number == number
        assert all(need.task < number for need in task.needs)
        assert all(other < number for other in task.after)
        for need in task.needs if task.kind not in COLLECTIVE else []:
            assert bool(need.tensors) == (tasks[need.task].site != task.site), (task.name, tasks[need.task].name)


def test_scales_make_a_wavefront() -> None:
    cfg = config(generator__n_scales_spatial=3)
    cells = itertools.product(range(4), range(3))
    for frame, scale in cells:
        expected = set(itertools.product(range(frame + 1), range(scale + 1))) - {(frame, scale)}
        assert made_before(cfg, frame, scale) == expected


@pytest.mark.parametrize("kind", [Kind.LABEL, Kind.FOREGROUND, Kind.IMAGE_REAL, Kind.PERCEPTUAL_REAL])
def test_what_reads_no_generated_frame_waits_for_none(kind: Kind) -> None:
    assert made_before(config(**STREET), 3, 0, kind) == set()


def test_a_frame_is_judged_when_it_is_there() -> None:
    assert made_before(config(), 1, 0, Kind.IMAGE_FAKE) == {(0, 0), (1, 0)}
    assert made_before(config(), 1, 0, Kind.PERCEPTUAL_FAKE) == {(0, 0), (1, 0)}


def reached_from(n_frames_bp: int, n_frames: int, frame: int) -> set[int]:
    """Frames whose backward pass must come after that of `frame`."""
    tasks = step_tasks(config(), steady_shape(1, n_frames, n_frames_bp=n_frames_bp))
    start = by_key(tasks)[Kind.BACKWARD, (frame,), 0].number
    return {task.frames[0] for task in tasks if task.kind == Kind.BACKWARD
            and (task.number == start or start in ancestors(tasks, task))}


def test_gradient_reach() -> None:
    """The two measured sets of spec losses 6, and the rule that gives them."""
    assert reached_from(1, 6, 3) == {3}
    assert reached_from(2, 6, 3) == {0, 1, 2, 3}
    assert reached_from(4, 6, 5) == {0, 1, 2, 3, 4, 5}
    for k, frame in itertools.product((1, 2, 3, 4, 6), range(6)):
        expected, grown = set(), {frame}
        while grown != expected:
            expected = set(grown)
            grown |= {u - back for u in expected if u % k for back in (1, 2) if u >= back}
        assert reached_from(k, 6, frame) == expected


def test_temporal_groups_and_their_flows() -> None:
    tasks = step_tasks(config(), steady_shape(1, 4))
    judged = {task.scale: task for task in tasks if task.kind == Kind.TEMPORAL_FAKE}
    assert judged[0].frames == (0, 1, 2, 3)  # (1, 2, 3) and (-2, -1, 0)
    assert judged[1].frames == (0, 3)  # (-3, 0, 3) and (-6, -3, 0)
    assert judged[0].units == judged[1].units == 2
    ahead = [task for task in tasks if task.is_ahead]
    assert sum(task.kind == Kind.FLOW for task in ahead) == 4
    assert sum(task.kind == Kind.SKIPPED_FLOW for task in ahead) == 4
    assert not any(task.needs for task in ahead)
    assert all(site.role in ("generator", "temporal_0") for task in ahead if task.kind == Kind.FLOW
               for _, site in task.carries)


def test_sparse_groups_need_no_flow_between_skipped_frames() -> None:
    tasks = step_tasks(config(discriminator__sparse_D=True), steady_shape(1, 4))
    assert not any(task.kind == Kind.SKIPPED_FLOW for task in tasks)


def test_flow_of_this_step_is_waited_for_where_it_was_not_computed_before() -> None:
    tasks = step_tasks(config(), StepShape((LaneChunk(20, 4),)))
    keyed = by_key(tasks)
    assert keyed[Kind.FLOW, (2,), 0].number in ancestors(tasks, keyed[Kind.FLOW_LOSS, (2,), 0])
    real = next(task for task in tasks if task.kind == Kind.TEMPORAL_REAL and task.scale == 1)
    assert {tasks[i].kind for i in ancestors(tasks, real)} == {Kind.SKIPPED_FLOW}


def test_start_of_a_clip_has_no_temporal_groups_and_keeps_frames_for_later() -> None:
    tasks = step_tasks(config(), StepShape((LaneChunk(0, 2),)))
    assert not any(task.role.startswith("temporal") for task in tasks)
    last = by_key(tasks)[Kind.SYNTHESIS, (1,), 0]
    assert ("image/0", Site("temporal_1", 0)) in last.carries
    assert {task.role for task in tasks if task.kind == Kind.UPDATE} == {"generator", "image"}


def test_history_goes_to_the_frames_that_look_back_at_it() -> None:
    tasks = by_key(step_tasks(config(), steady_shape(1, 4)))
    heirs = {frame: [site.index for _, site in tasks[Kind.SYNTHESIS, (frame,), 0].carries if site.role == "generator"]
             for frame in range(4)}
    assert heirs == {0: [], 1: [], 2: [0], 3: [0, 1]}


def test_coarse_scales_rest_while_only_the_finest_is_trained() -> None:
    tasks = step_tasks(config(**STREET), StepShape((LaneChunk(0, 3),), train_all_scales=False))
    assert {task.scale for task in tasks if task.role == "generator" and task.kind in INTO_WEIGHTS} == {1}


def test_weights_are_updated_after_every_gradient() -> None:
    tasks = step_tasks(config(data__label_nc=0, discriminator__add_face_disc=True), steady_shape(2, 3))
    for task in tasks:
        if task.kind == Kind.REDUCE:
            of_role = "image" if task.role == "face" else task.role
            assert {need.task for need in task.needs} == {
                other.number for other in tasks if other.kind in INTO_WEIGHTS and other.role == of_role}
    assert sorted(task.role for task in tasks if task.kind == Kind.UPDATE) == [
        "face", "generator", "image", "temporal_0", "temporal_1"]


def test_lanes_in_flight_wait_for_backward_passes() -> None:
    tasks = step_tasks(config(), steady_shape(3, 2, in_flight=2))
    waiting = {task.lane: {tasks[i].lane for i in task.after} for task in tasks if task.kind == Kind.LABEL}
    assert waiting == {0: set(), 1: set(), 2: {0}}
