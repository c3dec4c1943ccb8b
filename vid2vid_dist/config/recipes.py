"""Where a configuration file is: a path, or the name of a recipe that comes with the program."""

import difflib
from pathlib import Path

from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_path_within, shown

_PACKAGE = Path(__file__).resolve().parents[1]
_BESIDE = _PACKAGE.parent / "configs"
RECIPES = _BESIDE if (_BESIDE / "base.yaml").is_file() else _PACKAGE / "configs"
"""`configs/` of the checkout, or the copy of it in an installed package."""


def find_config(name: Path | str, folder: Path = Path()) -> Path:
    """The file that `name` means: a path, from `folder` on, else a recipe: street/512 or configs/street/512.yaml.

    Raises `UserError` for what is neither.
    """
    path = folder / name
    if path.is_file():
        return path
    recipe = f"{name}".removesuffix(".yaml").removeprefix("configs/")
    if is_path_within(recipe) and (RECIPES / f"{recipe}.yaml").is_file():
        return RECIPES / f"{recipe}.yaml"
    if path.exists():
        return path  # a folder, a pipe: whoever reads it says so
    is_own = "/" not in recipe and f"{name}".endswith(".yaml")  # a file of somebody's own, not a recipe misspelt
    near = [] if is_own else difflib.get_close_matches(shown(recipe), recipe_names(), n=1)
    hint = f"did you mean the recipe {near[0]}?" if near else "name a file that is there, or a recipe like street/512"
    raise UserError(f"cannot read the configuration file {path}: No such file or directory; {hint}")


def recipe_names() -> list[str]:
    """All recipes by name; not the chains, which are lists of them."""
    paths = (path.relative_to(RECIPES) for path in RECIPES.rglob("*.yaml"))
    return sorted(str(path.with_suffix("")) for path in paths if path.parts[0] != "chains")
