"""Brushes: a stroke looks as if every point of it had been drawn."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from vid2vid_dist.data.face_curves import Color, Curve, brush, curve_through

HEIGHT, WIDTH = 12, 20
COLOR = (153, 51, 9)
points = st.lists(st.tuples(st.floats(-60, 80), st.floats(-60, 80)), min_size=2, max_size=2)


def brush_point_by_point(canvas: np.ndarray, curve: Curve, size: int, color: Color) -> None:
    """The rule as the specification says it: stamp after stamp, each with all points of the curve."""
    disc = [(dy, dx) for dy in range(-2 * size, 2 * size) for dx in range(-2 * size, 2 * size)
            if dy * dy + dx * dx < 4 * size * size]
    square = [(dy, dx) for dy in range(-size, size) for dx in range(-size, size)]
    for offsets, numbers in ((square, range(len(curve.x))), (disc, (0, -1))):
        for dy, dx in offsets:
            places = {(min(max(int(curve.y[i]) + dy, 0), HEIGHT - 1), min(max(int(curve.x[i]) + dx, 0), WIDTH - 1))
                      for i in numbers}
            black = not any(canvas[place].any() for place in places)
            for place in places:
                canvas[place] = color if black else (canvas[place].astype(int) + color) // 2


@given(st.lists(points, min_size=1, max_size=3), st.sampled_from([1, 3]))
@example([[(-1e4, -9e3), (1e4, 9e3)], [(3.0, 2.0), (9e3, 5.0)]], 3)
@example([[(-50.0, -50.0), (-90.0, -60.0)]], 3)
def test_a_stroke_looks_as_if_every_point_had_been_drawn(strokes: list[list[tuple[float, float]]], size: int) -> None:
    expected, found = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    for ends in strokes:
        curve = curve_through(np.array(ends))
        if curve is not None and len(curve.x):
            brush_point_by_point(expected, curve, size, COLOR)
            brush(found, curve, size, COLOR)
    assert (found == expected).all()
