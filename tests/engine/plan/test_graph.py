"""What the tasks of a step wait for."""

import itertools

import pytest

from tests.engine.plans import specs_of
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.role import RoleSpecs
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
from vid2vid_dist.engine.plan.tensors import Part, image

STREET = {"generator__fg": True, "generator__n_scales_spatial": 2, "discriminator__n_scales_temporal": 2}


def find(tasks: list[Task], role: str, kind: Kind, frame: int, scale: int = 0) -> Task:
    """The task of a frame in the only lane."""
    (found,) = (task for task in tasks if (task.role, task.kind, task.frames, task.scale) == (
        role, kind, (frame,), scale))
    return found


def ancestors(tasks: list[Task], task: Task) -> set[int]:
    found: set[int] = set()
    waiting = [task.number]
    while waiting:
        for need in tasks[waiting.pop()].needs:
            if need.task not in found:
                found.add(need.task)
                waiting.append(need.task)
    return found


def made_before(specs: RoleSpecs, role: str, kind: Kind, frame: int, scale: int = 0) -> set[tuple[int, int]]:
    """(frame, scale) of the synthesis tasks that a task of the only lane waits for."""
    tasks = step_tasks(specs, steady_shape(1, 4))
    return {(tasks[i].frames[0], tasks[i].scale) for i in ancestors(tasks, find(tasks, role, kind, frame, scale))
            if tasks[i].kind == Kind.SYNTHESIS}


@pytest.mark.parametrize("whole_chunks", [False, True])
@pytest.mark.parametrize("shape", [
    steady_shape(2, 6),
    steady_shape(3, 4, n_frames_bp=3, in_flight=1),
    StepShape((LaneChunk(0, 4), LaneChunk(4, 2), LaneChunk(9, 0)), ahead=(LaneChunk(4, 4), LaneChunk(0, 1))),
    StepShape((LaneChunk(30, 3),), train_all_scales=False),
])
def test_needs_are_of_earlier_tasks_and_name_tensors_across_sites(shape: StepShape, whole_chunks: bool) -> None:
    tasks = step_tasks(specs_of(**STREET, loss__no_vgg=False), shape, whole_chunks)
    for number, task in enumerate(tasks):
        assert task.number == number
        assert all(need.task < number for need in task.needs)
        assert all(other < number for other in task.after)
        for need in task.needs if task.kind not in COLLECTIVE else []:
            other = tasks[need.task]
            assert bool(need.parts) == ((other.site, other.role) != (task.site, task.role)), (task.name, other.name)


def test_scales_make_a_wavefront() -> None:
    specs = specs_of(generator__n_scales_spatial=3)
    cells = itertools.product(range(4), range(3))
    for frame, scale in cells:
        expected = set(itertools.product(range(frame + 1), range(scale + 1))) - {(frame, scale)}
        assert made_before(specs, "generator", Kind.SYNTHESIS, frame, scale) == expected


@pytest.mark.parametrize(("role", "kind"), [
    ("generator", Kind.LABEL), ("generator", Kind.FOREGROUND), ("image", Kind.REAL), ("perceptual", Kind.REAL)])
def test_what_reads_no_generated_frame_waits_for_none(role: str, kind: Kind) -> None:
    assert made_before(specs_of(**STREET), role, kind, 3) == set()


@pytest.mark.parametrize("role", ["image", "perceptual", "warp"])
def test_a_frame_is_judged_when_it_is_there(role: str) -> None:
    assert made_before(specs_of(), role, Kind.FAKE, 1) == {(0, 0), (1, 0)}


def reached_from(n_frames_bp: int, n_frames: int, frame: int) -> set[int]:
    """Frames whose backward pass must come after that of `frame`."""
    tasks = step_tasks(specs_of(), steady_shape(1, n_frames, n_frames_bp=n_frames_bp))
    start = find(tasks, "generator", Kind.SYNTHESIS_BACKWARD, frame).number
    return {task.frames[0] for task in tasks if task.kind == Kind.SYNTHESIS_BACKWARD
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
    tasks = step_tasks(specs_of(), steady_shape(1, 4))
    judged = {task.role: task for task in tasks if task.kind == Kind.FAKE}
    assert judged["temporal_0"].frames == (0, 1, 2, 3)  # (1, 2, 3) and (-2, -1, 0)
    assert judged["temporal_1"].frames == (0, 3)  # (-3, 0, 3) and (-6, -3, 0)
    assert judged["temporal_0"].units == judged["temporal_1"].units == 2
    ahead = [task for task in tasks if task.is_ahead]
    assert {task.kind for task in ahead} == {Kind.REFERENCE}
    # Each once: two groups look from frame 0 to frame -3.
    assert sorted((task.gap, *task.frames) for task in ahead) == [(1, 0), (1, 1), (1, 2), (1, 3),
                                                                  (3, -3), (3, 0), (3, 3)]
    assert not any(task.needs for task in ahead)
    for task in ahead:
        readers = {site.role for _, site in task.to_next_step}
        assert readers == ({"generator", "temporal_0"} if task.gap == 1 else {"temporal_1"})


def test_sparse_groups_need_no_flow_between_skipped_frames() -> None:
    tasks = step_tasks(specs_of(discriminator__sparse_D=True), steady_shape(1, 4))
    assert {task.gap for task in tasks if task.kind == Kind.REFERENCE} == {1}
    assert any(task.role == "temporal_1" for task in tasks)


def test_flow_of_this_step_is_waited_for_where_it_was_not_computed_before() -> None:
    tasks = step_tasks(specs_of(), StepShape((LaneChunk(20, 4),)))
    flow = find([task for task in tasks if task.gap == 1], "flow", Kind.REFERENCE, 2)
    assert flow.number in ancestors(tasks, find(tasks, "warp", Kind.FAKE, 2))
    real = next(task for task in tasks if task.role == "temporal_1" and task.kind == Kind.REAL)
    before = [tasks[i] for i in ancestors(tasks, real)]
    assert {(task.kind, task.gap) for task in before} == {(Kind.REFERENCE, 3)}


def test_start_of_a_clip_has_no_temporal_groups_and_keeps_frames_for_later() -> None:
    tasks = step_tasks(specs_of(), StepShape((LaneChunk(0, 2),)))
    assert not any(task.role.startswith("temporal") for task in tasks)
    last = find(tasks, "generator", Kind.BLEND, 1)
    assert (Part(image(0), 1), Site("temporal_1", 0)) in last.to_next_step
    assert {task.role for task in tasks if task.kind == Kind.UPDATE} == {"generator", "image"}


def test_history_goes_to_the_frames_that_look_back_at_it() -> None:
    tasks = step_tasks(specs_of(), steady_shape(1, 4))
    made = [find(tasks, "generator", Kind.BLEND, frame) for frame in range(4)]
    heirs = [[(site.frame, site.part) for _, site in task.to_next_step if site.role == "generator"] for task in made]
    assert heirs == [[], [], [(0, "past")], [(0, "past"), (0, "flow"), (1, "past"), (0, "")]], (
        "the warp loss looks back too")


def test_image_and_flow_of_a_frame_do_not_wait_for_each_other() -> None:
    tasks = step_tasks(specs_of(**STREET), steady_shape(1, 3))
    for one, other in itertools.permutations((Kind.SYNTHESIS, Kind.FLOW)):
        assert find(tasks, "generator", one, 1, 1).number not in ancestors(tasks, find(tasks, "generator", other, 1, 1))
    backward = [find(tasks, "generator", kind, 1, 1)
                for kind in (Kind.SYNTHESIS_BACKWARD, Kind.FLOW_BACKWARD, Kind.FOREGROUND_BACKWARD)]
    for one, other in itertools.permutations(backward, 2):
        assert one.number not in ancestors(tasks, other)
    encoders = [find(tasks, "generator", kind, 1, 1) for kind in (Kind.PAST_BACKWARD, Kind.LABEL_BACKWARD)]
    for task in encoders:
        assert {one.number for one in backward[:2]} <= ancestors(tasks, task)
    assert encoders[0].number not in ancestors(tasks, encoders[1])


def test_coarse_scales_rest_while_only_the_finest_is_trained() -> None:
    tasks = step_tasks(specs_of(**STREET), StepShape((LaneChunk(0, 3),), train_all_scales=False))
    assert {task.scale for task in tasks if task.role == "generator" and task.kind in INTO_WEIGHTS} == {1}


def test_weights_are_updated_after_every_gradient() -> None:
    specs = specs_of(data__label_nc=0, discriminator__add_face_disc=True)
    tasks = step_tasks(specs, steady_shape(2, 3))
    waited = {role: [need.task for task in tasks if task.kind == Kind.REDUCE and task.role == role
                     for need in task.needs] for role in specs.trained}
    for role, numbers in waited.items():
        assert sorted(numbers) == [task.number for task in tasks if task.kind in INTO_WEIGHTS and task.role == role]
    for task in tasks:
        if task.kind == Kind.UPDATE:
            assert [need.task for need in task.needs] == [
                other.number for other in tasks if other.kind == Kind.REDUCE and other.role == task.role]
    assert sorted(task.role for task in tasks if task.kind == Kind.UPDATE) == [
        "face", "generator", "image", "temporal_0", "temporal_1"]


def test_lanes_in_flight_wait_for_backward_passes() -> None:
    tasks = step_tasks(specs_of(), steady_shape(3, 2, in_flight=2))
    waiting = {task.lane: {tasks[i].lane for i in task.after} for task in tasks if task.kind == Kind.LABEL}
    assert waiting == {0: set(), 1: set(), 2: {0}}


def test_critics_that_need_not_share_frames_take_them_all_at_once_on_one_rank() -> None:
    """Perceptual and warp losses, and reference flow; the image discriminator's passes are those of the settings."""
    specs = specs_of(discriminator__frames_per_pass=2)
    for whole_chunks, expected in ((False, [(0,), (1,), (2,)]), (True, [(0, 1, 2)])):
        tasks = step_tasks(specs, StepShape((LaneChunk(0, 3),)), whole_chunks)
        for role, kind in (("perceptual", Kind.REAL), ("warp", Kind.FAKE), ("flow", Kind.REFERENCE)):
            assert [task.frames for task in tasks if (task.role, task.kind) == (role, kind)] == expected
        assert [task.frames for task in tasks if (task.role, task.kind) == ("image", Kind.FAKE)] == [(0, 1), (2,)]
