"""Curves: gaps, outliers, lone points."""

import math
import re

import pytest

from vid2vid_dist.monitor.svg_curves import HEIGHT, WIDTH, curve, number


def polylines(svg: str) -> list[list[tuple[float, ...]]]:
    found = re.findall(r'<polyline[^>]* points="([^"]*)"', svg)
    return [[tuple(map(float, point.split(","))) for point in line.split()] for line in found]


def test_a_line_from_edge_to_edge() -> None:
    svg = curve("loss", [10, 20, 30], [1.0, 0.5, 0.0])
    [line] = polylines(svg)
    assert [x for x, _ in line] == [0, WIDTH / 2, WIDTH]
    ys = [y for _, y in line]
    assert 0 <= ys[0] < ys[1] < ys[2] <= HEIGHT
    assert ys[1] == pytest.approx(HEIGHT / 2)
    assert "step 10 – 30" in svg
    assert "frame 0 – 1" in curve("warp error", [0, 1], [1.0, 0.5], unit="frame")


def test_what_is_not_finite_leaves_a_gap() -> None:
    values = [1.0, 2.0, math.nan, 3.0, math.inf, 4.0, 5.0]
    svg = curve("loss", list(range(7)), values)
    assert [len(line) for line in polylines(svg)] == [2, 2, 2]  # the lone 3.0 is drawn as a short line
    assert "nan" not in svg


def test_a_curve_without_a_finite_value() -> None:
    svg = curve("loss", [10, 20], [math.nan, math.nan])
    assert polylines(svg) == []
    assert "<b>nan</b>" in svg


def test_long_runs_become_few_points() -> None:
    n = 100_000
    [line] = polylines(curve("loss", list(range(n)), [i / n for i in range(n)]))
    assert len(line) <= 240


def test_an_outlier_does_not_flatten_the_rest() -> None:
    values = [0.1 * (i % 10) for i in range(1000)]
    values[500] = 1e6
    [line] = polylines(curve("loss", list(range(1000)), values))
    ys = [y for _, y in line]
    assert max(ys) - min(ys) > HEIGHT / 5


def test_constant_and_single_values_are_drawn_in_the_middle() -> None:
    for steps in ([10], [10, 20, 30]):
        [line] = polylines(curve("lr", steps, [2e-4] * len(steps)))
        assert all(y == pytest.approx(HEIGHT / 2) for _, y in line)
        assert len(line) >= 2


def test_names_are_escaped() -> None:
    svg = curve('<b>"x"', [1], [1.0])
    assert '<b>"x"' not in svg
    assert "&lt;b&gt;&quot;x&quot;" in svg


@pytest.mark.parametrize(
    ("value", "text"), [(0.123456, "0.123"), (2e-4, "0.0002"), (1e-7, "1e-7"), (2e9, "2e+9")])
def test_number(value: float, text: str) -> None:
    assert number(value) == text
