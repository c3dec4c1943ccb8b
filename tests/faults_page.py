"""docs/faults.md, made from what the tests say of themselves.

    python -m tests.faults_page

A test that makes a fault is marked `@pytest.mark.fault(SECTION, what happens, what the run does, what is lost)`;
`pytest -m fault` runs them all.
"""

import ast
from pathlib import Path

from tests.conftest import ROOT

PAGE = ROOT / "docs/faults.md"
SECTIONS = ("A run ends", "Disks", "Surroundings", "Files")
TOP = """\
# What goes wrong, and what is lost

Each line is tried by the test in its last column, with the real thing: signals, torchrun, Slurm, full file systems.
`python -m vid2vid_dist status runs/*` says how runs stand, one line each, also those that were killed.
This page is made from the tests: `python -m tests.faults_page`.
"""
HEAD = "| What happens | What the run does | What is lost | Test |\n|---|---|---|---|"


def faults() -> list[tuple[list[str], str]]:
    """What each mark says, and the test that has it, by file."""
    return [([ast.literal_eval(argument) for argument in mark.args], f"{path.relative_to(ROOT)}::{node.name}")
            for path in sorted((ROOT / "tests").rglob("test_*.py"), key=_by_place)
            for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
            for mark in node.decorator_list
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault"]


def _by_place(path: Path) -> tuple[bool, Path]:
    """Those of training first: they tell of the commonest."""
    return path.parent.name != "training", path


def page() -> str:
    said = faults()
    tables = ["\n".join([f"## {section}\n", HEAD, *(
        f"| {happens} | {does} | {lost} | `{test}` |" for (of, happens, does, lost), test in said if of == section)])
        for section in SECTIONS]
    return "\n".join([TOP, "\n\n".join(tables), ""])


if __name__ == "__main__":
    PAGE.write_text(page())
