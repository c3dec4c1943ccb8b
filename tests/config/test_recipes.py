"""Configurations by name, from anywhere."""

from pathlib import Path

import pytest

from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.recipes import RECIPES, find_config, recipe_names
from vid2vid_dist.errors import UserError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["street/512", "street/512.yaml", "configs/street/512.yaml"])
def test_recipe_from_anywhere(name: str) -> None:
    assert find_config(name) == RECIPES / "street/512.yaml"
    assert load_config(name).run.name == "street_512"


def test_own_file_comes_first_and_builds_on_a_recipe(elsewhere: Path) -> None:
    (elsewhere / "street").mkdir()
    (elsewhere / "street/512.yaml").write_text("base: street/1024\nrun:\n  name: mine\n")
    cfg = load_config("street/512.yaml")
    assert (cfg.run.name, cfg.data.loadSize) == ("mine", 1024)


@pytest.mark.parametrize("name", ["street/521", "street/52"])
def test_unknown_name_is_told_with_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match=rf"{name}: No such file or directory; did you mean the recipe street/512\?"):
        load_config(name)


def test_a_missing_file_of_ones_own_is_no_misspelt_recipe(elsewhere: Path) -> None:
    with pytest.raises(UserError, match=r"face\.yaml: No such file or directory; name a file that is there"):
        load_config("face.yaml")
    with pytest.raises(UserError, match=r"did you mean the recipe street/512\?"):
        load_config("street/521.yaml")


@pytest.mark.parametrize("name", ["../configs/street/512", "/street/512", "street//512", ""])
def test_no_way_around_the_folder_of_recipes(name: str) -> None:
    with pytest.raises(UserError):
        load_config(Path(name) if name == "/street/512" else name or "./")


def test_every_recipe_is_listed_and_has_a_size_to_plan_for() -> None:
    names = recipe_names()
    assert {"base", "street/512", "face/512", "pose/512", "toy/cpu"} <= set(names)
    assert not any(name.startswith("chains/") for name in names)
    assert all(load_config(name).parallel.source_size for name in names if name != "base")
