"""A step's memory, counted, is what was planned."""

import pytest

from tools.memory_table import rows
from tools.recipe_table import TABLE


@pytest.mark.long
@pytest.mark.parametrize("name", ["street/g1_512.yaml", "pose/g1_512.yaml"])
def test_counted_memory_is_within_a_tenth_of_the_plan(name: str) -> None:
    (row,) = rows(next(recipe for recipe in TABLE if recipe.file == name), all_slots=True)
    assert row.counted == pytest.approx(row.planned, rel=0.1)
    assert row.holders.total() == row.counted
