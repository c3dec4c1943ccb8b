"""docs/faults.md says what the tests say."""

import ast

import pytest

from tests.conftest import ROOT
from tests.faults_page import PAGE, SECTIONS, faults, page


def test_the_page_is_that_of_the_tests() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.faults_page`"
    assert {said[0] for said, _ in faults()} == {*SECTIONS}
    assert len(faults()) > 50


@pytest.mark.parametrize("path", ["tests/training/test_ends.py", "tests/launch/test_odd_systems.py"])
def test_every_end_and_every_odd_system_is_told(path: str) -> None:
    tests = {node.name for node in ast.parse((ROOT / path).read_text()).body
             if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    assert tests == {test.partition("::")[2] for _, test in faults() if test.startswith(path)}
