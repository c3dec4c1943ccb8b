"""The picture of a plan."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from tests.engine.plans import config, made_up_costs
from vid2vid_dist.engine.plan.graph import step_tasks
from vid2vid_dist.engine.plan.placement import split
from vid2vid_dist.engine.plan.schedule import make_plan
from vid2vid_dist.engine.plan.simulate import simulate
from vid2vid_dist.engine.plan.tasks import Kind, steady_shape
from vid2vid_dist.monitor.gantt import COLOURS, LEFT, WIDTH, draw

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def picture() -> tuple[ElementTree.Element, int]:
    cfg = config(generator__fg=True)
    plan = make_plan(step_tasks(cfg, steady_shape(2, 3)), split(cfg, 2, 1), made_up_costs(cfg))
    runs = simulate(plan).timeline
    return ElementTree.fromstring(draw(runs, 3, "2 lanes & 3 frames", "a < b", ["G0", "G1", "D"])), len(runs)


def test_one_bar_per_run_with_its_name(picture: tuple[ElementTree.Element, int]) -> None:
    root, n_runs = picture
    tips = [tip.text or "" for tip in root.iter(f"{SVG}title")]
    assert len(tips) == n_runs
    assert any(tip.startswith("synthesis lane 1 frame 2 scale 0: ") for tip in tips)


def test_bars_lie_inside_the_picture(picture: tuple[ElementTree.Element, int]) -> None:
    bars = [bar for bar in picture[0].iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    for bar in bars:
        x, width = float(bar.attrib["x"]), float(bar.attrib["width"])
        assert LEFT <= x < x + width <= WIDTH


def test_words_rows_and_axis(picture: tuple[ElementTree.Element, int]) -> None:
    words = [text.text for text in picture[0].iter(f"{SVG}text")]
    assert {"2 lanes & 3 frames", "a < b", "G0", "G1", "D", "0", "perceptual fake"} <= set(words)
    assert sum(str(word).endswith(" ms") for word in words) == 1


def test_every_kind_has_its_own_colour() -> None:
    assert set(COLOURS) == set(Kind)
    assert len(set(COLOURS.values())) == len(Kind)


@pytest.mark.parametrize("seconds", [3e-6, 0.004, 0.0123, 1.0, 55.0])
def test_axis_has_few_round_ticks(seconds: float) -> None:
    cfg = config()
    plan = make_plan(step_tasks(cfg, steady_shape(1, 1)), split(cfg, 1, 1), made_up_costs(cfg))
    runs = [run for run in simulate(plan).timeline if run.task.kind == Kind.LABEL]
    stretched = [type(run)(run.task, run.slot, 0.0, seconds) for run in runs]
    words = [str(text.text) for text in ElementTree.fromstring(draw(stretched, 2, "")).iter(f"{SVG}text")]
    ticks = [float(word.removesuffix(" ms")) for word in words if word.removesuffix(" ms").replace(".", "").isdigit()]
    assert 4 <= len(ticks) <= 12
    assert ticks[-1] <= 1e3 * seconds + 1e-9
