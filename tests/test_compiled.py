"""Compiled loops run where nothing can be kept of them, too."""

from __future__ import annotations

from vid2vid_dist.compiled import compiled


def test_a_function_is_compiled_where_it_cannot_be_kept() -> None:
    """One without a file has no folder beside it, as one in a folder that is read only has none."""
    twice = compiled(eval("lambda x: 2 * x"))
    assert twice.py_func(3) == twice(3) == 6
    assert twice.stats.cache_path is None
