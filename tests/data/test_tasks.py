"""Data tasks: what a configuration must say for each, and that nothing but the registry knows one by name."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vid2vid_dist.config.load import load_config
from vid2vid_dist.data.tasks.registry import TASKS, check_task
from vid2vid_dist.errors import UserError

POSE = ["data.task=pose", "data.label_nc=0", "data.input_nc=6"]
FACE = ["data.task=face", "data.label_nc=0", "data.input_nc=15"]
HEADS = ["discriminator.add_face_disc=true", "discriminator.face_marker=openpose"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([*POSE, "data.input_nc=3"], r"draws 6 channels here: set data\.label_nc=0, data\.input_nc=6"),
        ([*POSE, "data.label_nc=35"], r"draws 6 channels here: set data\.label_nc=0, data\.input_nc=6"),
        ([*POSE, "data.densepose_only=true", "data.openpose_only=true"], "leave nothing"),
        ([*POSE, *HEADS], r"as it is here set discriminator\.face_marker=densepose"),
        ([*FACE, *HEADS], r"as it is here set discriminator\.add_face_disc=false"),
        (["data.label_nc=0", "data.input_nc=1"], r"draws 3 channels here"),
        (["data.label_nc=0", "generator.style_nc=3"], r"style_nc needs label maps, or a task .* data\.task=face"),
        (["data.task=dance"], r"data\.task=dance must be one of street \| face \| pose"),
    ],
)
def test_what_a_task_cannot_go_with(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_task(load_config(None, overrides))


@pytest.mark.parametrize("overrides", [
    [], [*FACE, "generator.style_nc=3"], [*POSE, *HEADS, "data.openpose_only=true", "data.input_nc=3"]])
def test_what_it_can(overrides: list[str]) -> None:
    check_task(load_config(None, overrides))


def test_no_switch_on_a_name() -> None:
    """Nothing compares data.task with a word, nor has a table by tasks' names."""
    for path in (ROOT / "vid2vid_dist").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                is_task = any(ast.unparse(side).endswith("task") for side in sides)
                assert not is_task or not any(isinstance(side, ast.Constant) for side in sides), (path, node.lineno)
            elif isinstance(node, ast.Dict):
                keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
                assert len(keys & {*TASKS}) < 2, (path, node.lineno)


RECIPES = sorted({*(ROOT / "configs").rglob("*.yaml")} - {*(ROOT / "configs/chains").iterdir()})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipes_go_with_their_tasks(path: Path) -> None:
    check_task(load_config(path))
