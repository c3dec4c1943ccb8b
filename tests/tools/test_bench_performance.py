"""The comparison of two commits, here of this one with itself."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT
from tools.bench_performance import Cells, Row, measured, rows, street, table
from tools.plots import draw_steps


def test_a_table_names_both_commits() -> None:
    head, top, _, row = table("abc", "def", {"step": vars(Cells("1 s", "—", "0.5 s"))})
    assert "abc against def" in head
    assert (top, row) == ("| What | Now | At def | Bound |", "| step | 1 s | — | 0.5 s |")


@pytest.mark.long
def test_this_commit_plans_as_itself_within_the_bound(tmp_path: Path) -> None:
    (row,) = [row for row in rows() if row.name == "plan of street/512, 1 lane"]
    both = measured(ROOT, row)
    assert both.steps is not None
    now, then = both.steps
    assert now == then
    draw_steps(tmp_path / "steps.png", {("street", "now"): now, ("street", "then"): then})
    assert Image.open(tmp_path / "steps.png").width > 1000
    found = both.cells
    step, busy = found[f"{row.name}: step"], found[f"{row.name}: busy"]
    assert step.now == step.then
    assert float(step.bound.split()[0]) <= float(step.now.split()[0])
    assert busy.now == busy.then


@pytest.mark.long
@pytest.mark.parametrize("kind", ["step", "generation"])
def test_both_are_stepped_and_bounded(kind: str) -> None:
    narrow = ["generator.ngf=4", "generator.n_blocks=2", "discriminator.ndf=2"]
    row = Row(kind, replace(street(kind, (64, 32), narrow), n_frames=1), rounds=1)
    cells = measured(ROOT, row).cells[kind]
    now, then, bound = (float(text.split()[0]) for text in (cells.now, cells.then, cells.bound))
    assert now > 0 < then
    assert bound < max(now, then) + 0.01


@pytest.mark.long
def test_what_cannot_be_driven_is_a_dash(tmp_path: object) -> None:
    cells = measured(ROOT, Row("it", street("operations", (64, 32), ["no.such=1"]))).cells["it"]
    assert (cells.now, cells.then) == ("—", "—")
