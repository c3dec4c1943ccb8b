"""The page's tables of weak scaling say what the planner says."""

import pytest

from tests.conftest import ROOT
from tools.bench_weak_scaling import FIRST, RECIPES, points, section
from tools.recipe_table import Recipe, chosen


@pytest.mark.parametrize("recipe", [
    pytest.param(recipe, marks=[] if recipe == "street/512.yaml" else pytest.mark.long)
    for recipe in RECIPES if "modern" not in recipe])
def test_the_page_is_up_to_date(recipe: str) -> None:
    """The modern ones are searched for long; they come from the same tool in the same call."""
    text, _ = section(recipe)
    assert text in (ROOT / "docs/scaling.md").read_text()


@pytest.mark.long
def test_a_replicated_plan_takes_its_own_step_and_what_the_network_adds() -> None:
    found = chosen(Recipe("street/1024.yaml", FIRST))
    one, two, many = points(found, (FIRST, 2 * FIRST, 128 * FIRST))
    assert one.step == found.choice.prediction.period
    assert [point.n_clips for point in (one, two, many)] == [1, 2, 128]
    assert one.step < two.step < many.step
    assert two.step - one.step == pytest.approx(two.waiting - one.waiting + two.updates - one.updates)
    n_bytes = max(found.costs.buckets.values()) * found.costs.element
    n_holders = len(found.choice.plan.layout.slots["generator"])
    assert many.reduction == found.costs.machine.all_reduce(n_bytes, 128 * n_holders, n_nodes=128)
    assert many.uneven > many.step
