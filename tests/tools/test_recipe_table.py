"""The README's table says what the planner says."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from tools.recipe_table import CONFIGS, RECIPES, Recipe, row


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if "modern" not in recipe.file],
                         ids=lambda recipe: recipe.file)
def test_readme_is_up_to_date(recipe: Recipe) -> None:
    """The modern ones are searched for long; they come from the same tool in the same call."""
    assert row(recipe) in (ROOT / "README.md").read_text().splitlines()


def test_every_full_size_recipe_is_in_the_table() -> None:
    listed = {recipe.file for recipe in RECIPES}
    found = {str(path.relative_to(CONFIGS)) for folder in ("street", "single_image")
             for path in CONFIGS.glob(f"{folder}/**/*.yaml")}
    assert found - listed == {"street/cityscapes.yaml", "street/256_cpu.yaml"}
