"""The picture of a plan."""

import xml.etree.ElementTree as ElementTree

import pytest

from tests.engine.plans import made_up_costs, specs_of
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import split
from vid2vid_dist.engine.plan.role import RoleSpecs
from vid2vid_dist.engine.plan.schedule import make_plan
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, Kind, steady_shape
from vid2vid_dist.monitor.gantt import LEFT, WIDTH, colour, draw, text_colour

SVG = "{http://www.w3.org/2000/svg}"


def colours_of(specs: RoleSpecs) -> dict[str, str]:
    return {spec.name: spec.colour for spec in specs.all}


@pytest.fixture(scope="module")
def picture() -> tuple[ElementTree.Element, int]:
    specs = specs_of(generator__fg=True)
    plan = make_plan(step_tasks(specs, steady_shape(2, 3)), split(specs, 2, 1), made_up_costs(specs))
    runs = simulate(plan).timeline
    text = draw(runs, 3, colours_of(specs), "2 lanes & 3 frames", "a < b")
    return ElementTree.fromstring(text), len(runs)


def test_one_bar_per_run_with_its_name(picture: tuple[ElementTree.Element, int]) -> None:
    root, n_runs = picture
    tips = [tip.text or "" for tip in root.iter(f"{SVG}title")]
    assert len(tips) == n_runs
    assert any(tip.startswith("generator synthesis lane 1 frame 2: ") for tip in tips)


def test_bars_lie_inside_the_picture(picture: tuple[ElementTree.Element, int]) -> None:
    bars = [bar for bar in picture[0].iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    for bar in bars:
        x, width = float(bar.attrib["x"]), float(bar.attrib["width"])
        assert LEFT <= x < x + width <= WIDTH


def test_words_rows_and_axis(picture: tuple[ElementTree.Element, int]) -> None:
    words = [text.text for text in picture[0].iter(f"{SVG}text")]
    assert {"2 lanes & 3 frames", "a < b", "rank 0", "rank 1", "rank 2", "0", "perceptual fake"} <= set(words)
    assert sum(str(word).endswith(" ms") for word in words) == 1


def test_roles_and_kinds_are_told_apart() -> None:
    """And what stands on a bar can be read."""
    specs = specs_of(discriminator__add_face_disc=True, data__label_nc=0)
    tasks = [task for task in step_tasks(specs, steady_shape(1, 12)) if task.kind not in COLLECTIVE]
    by_role_and_kind = {(task.role.partition("_")[0], task.kind): colour(task, colours_of(specs)) for task in tasks}
    assert len(set(by_role_and_kind.values())) == len(by_role_and_kind)
    assert (text_colour("#ffffff"), text_colour("#08306b")) == ("#252525", "#ffffff")


@pytest.mark.parametrize("seconds", [3e-6, 0.004, 0.0123, 1.0, 55.0])
def test_axis_has_few_round_ticks(seconds: float) -> None:
    specs = specs_of()
    plan = make_plan(step_tasks(specs, steady_shape(1, 1)), split(specs, 1, 1), made_up_costs(specs))
    runs = [run for run in simulate(plan).timeline if run.task.kind == Kind.LABEL]
    stretched = [type(run)(run.task, run.slot, 0.0, seconds) for run in runs]
    drawn = ElementTree.fromstring(draw(stretched, 2, colours_of(specs), "", ""))
    words = [str(text.text) for text in drawn.iter(f"{SVG}text")]
    ticks = [float(word.removesuffix(" ms")) for word in words if word.removesuffix(" ms").replace(".", "").isdigit()]
    assert 4 <= len(ticks) <= 12
    assert ticks[-1] <= 1e3 * seconds + 1e-9
