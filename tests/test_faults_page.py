"""docs/faults.md promises what tests show."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import ROOT

NAMED = re.findall(r"\| `(tests/\S+\.py)::(test_\w+)` \|$", (ROOT / "docs/faults.md").read_text(), re.MULTILINE)


def names_in(path: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_fault_has_a_test() -> None:
    assert len(NAMED) > 20
    assert [(path, name) for path, name in NAMED if name not in names_in(path)] == []


@pytest.mark.parametrize("path", ["tests/training/test_ends.py", "tests/launch/test_odd_systems.py"])
def test_every_end_and_every_odd_system_is_told(path: str) -> None:
    assert names_in(path) == {name for of, name in NAMED if of == path}
