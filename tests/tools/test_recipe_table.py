"""The README's table says what the planner says."""

import pytest

from tests.conftest import ROOT
from tools.recipe_table import TABLE, Recipe, row
from vid2vid_dist.config.recipes import RECIPES


@pytest.mark.parametrize("recipe", [
    pytest.param(recipe, id=recipe.file, marks=[] if recipe.file == "face/512.yaml" else pytest.mark.long)
    for recipe in TABLE if "modern" not in recipe.file])
def test_readme_is_up_to_date(recipe: Recipe) -> None:
    """The modern ones are searched for long; they come from the same tool in the same call."""
    assert row(recipe) in (ROOT / "README.md").read_text().splitlines()


def test_every_full_size_recipe_is_in_the_table() -> None:
    listed = {recipe.file for recipe in TABLE}
    found = {str(path.relative_to(RECIPES)) for folder in ("street", "single_image")
             for path in RECIPES.glob(f"{folder}/**/*.yaml")}
    assert found - listed == {"street/cityscapes.yaml", "street/256_cpu.yaml"}
