"""Traced steps as files: tracks of what ran beside what was planned, and times for the planner."""

import json
from pathlib import Path

import pytest

from tests.engine.plans import made_up_costs, specs_of
from vid2vid_dist.engine.plan.schedule import Run
from vid2vid_dist.engine.plan.tasks import CostKey, Kind, Task
from vid2vid_dist.engine.run.timing import Span
from vid2vid_dist.errors import UserError
from vid2vid_dist.monitor.trace import TracedStep, read_costs, write_costs, write_trace

SYNTHESIS = CostKey("generator", Kind.SYNTHESIS, 1)
COSTS = made_up_costs(specs_of(generator__n_scales_spatial=2, loss__no_vgg=True))
FAKE = Task(1, Kind.FAKE, "image", 0, (2,))
MADE = Task(0, Kind.SYNTHESIS, "generator", 0, (2,), scale=1)


@pytest.fixture
def steps() -> list[TracedStep]:
    """Of two ranks in step 7, the second slower; of one in step 8."""
    def step(rank: int, number: int, seconds: float) -> TracedStep:
        spans = [Span(MADE.name, SYNTHESIS, 0.5, 0.5 + seconds, units=2.0), Span("for rank 1", None, 1.0, 1.25),
                 Span("reduce image", CostKey("image", Kind.REDUCE), 1.5, 2.0)]
        return TracedStep(rank, number, 10.0 * number, spans, [Run(MADE, rank, 0.0, 0.3), Run(FAKE, rank, 0.3, 0.4)])

    return [step(0, 7, 0.5), step(1, 7, 5.5), step(0, 8, 1.0)]


def test_what_ran_stands_beside_the_plan(steps: list[TracedStep], tmp_path: Path) -> None:
    write_trace(tmp_path / "traces/two.json", steps)
    events = json.loads((tmp_path / "traces/two.json").read_text())["traceEvents"]
    assert {(event["pid"], event["args"]["name"]) for event in events if event["ph"] == "M"} == {
        (rank, name) for rank in (0, 1) for name in (f"rank {rank}", "actual", "reductions and updates", "planned")}
    ran = [event for event in events if event["ph"] == "X" and event["pid"] == 0 and event["ts"] < 80e6]
    assert [(event["name"], event["cat"], event["tid"]) for event in ran] == [
        ("generator synthesis lane 0 frame 2 scale 1", "generator", 0), ("for rank 1", "wait", 0),
        ("reduce image", "image", 1), ("generator synthesis lane 0 frame 2 scale 1", "generator", 2),
        ("image fake lane 0 frame 2", "image", 2)]
    assert [(event["ts"], event["dur"]) for event in ran[:3]] == [(70.5e6, 0.5e6), (71e6, 0.25e6), (71.5e6, 0.5e6)]
    # The plan's 0.4 s are stretched over the 6 s of the step, which it took on the slower rank.
    assert [event["ts"] for event in ran[3:]] == pytest.approx([70e6, 70e6 + 0.3 / 0.4 * 6e6])
    assert [event["dur"] for event in ran[3:]] == pytest.approx([0.3 / 0.4 * 6e6, 0.1 / 0.4 * 6e6])


def test_the_planner_takes_the_medians_of_a_unit(steps: list[TracedStep], tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    write_costs(path, steps)
    assert json.loads(path.read_text()) == {"generator/synthesis/1": 0.5, "image/reduce/0": 0.5}
    measured = read_costs(COSTS, path)
    assert measured.seconds(SYNTHESIS) == measured.seconds(CostKey("image", Kind.REDUCE), 4) == 0.5
    others = [key for key in COSTS.work if key != SYNTHESIS]
    assert {key: measured.seconds(key) for key in others} == {key: COSTS.seconds(key) for key in others}
    update = CostKey("image", Kind.UPDATE)
    assert measured.seconds(update, 4) == COSTS.seconds(update, 4)
    assert read_costs(COSTS, None) == COSTS


@pytest.mark.parametrize("text", [
    "[1]", "{", '{"generator/synthesis/0": "slow"}', '{"generator/synthesis/0": -1}', '{"generator/sinthesis/0": 1}',
    '{"synthesis/0": 1}', '{"perceptual/update/0": 1}'])
def test_bad_table_of_times_is_refused(tmp_path: Path, text: str) -> None:
    table = tmp_path / "times.json"
    table.write_text(text)
    with pytest.raises(UserError, match=r"times\.json"):
        read_costs(COSTS, table)
