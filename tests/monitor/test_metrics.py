"""The journal: strict JSON, torn lines, resumed runs."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest

from vid2vid_dist.monitor.metrics import MAX_REPORTS, Journal, MetricsLog, read_journal


def write(run_dir: Path, *records: dict) -> None:
    log = MetricsLog(run_dir)
    for record in records:
        log.write(record)
    log.close()


def report(step: int, loss: float = 0.5) -> dict:
    return {"step": step, "losses": {"G_GAN": loss}}


def sample(step: int) -> dict:
    return {"step": step, "sample": f"media/step_{step}"}


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    write(tmp_path, report(1, math.nan), report(2, -math.inf), {"event": "naïve\nline", "list": [math.inf]})

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3
    records = [json.loads(line, parse_constant=refuse) for line in lines]
    assert math.isnan(float(records[0]["losses"]["G_GAN"]))
    assert float(records[1]["losses"]["G_GAN"]) == -math.inf
    assert records[2]["event"] == "naïve\nline"
    assert all(record["time"] > 1.6e9 for record in records)


def test_a_record_is_readable_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.write(report(1))
    assert len(read_journal(tmp_path).reports) == 1
    log.close()


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    write(tmp_path, report(10), report(20))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-12])
    write(tmp_path, report(30))
    assert [record["step"] for record in read_journal(tmp_path).reports] == [10, 30]


def test_a_resumed_run_drops_what_it_left_behind(tmp_path: Path) -> None:
    write(tmp_path, report(10), report(20), sample(20), {"event": "a"}, report(30), report(40), sample(40))
    write(tmp_path, {"event": "resumed from step 20"}, report(30, 7.0))
    journal = read_journal(tmp_path)
    assert [(r["step"], r["losses"]["G_GAN"]) for r in journal.reports] == [(10, 0.5), (20, 0.5), (30, 7.0)]
    assert [record["step"] for record in journal.samples] == [20]
    assert [record["event"] for record in journal.events] == ["a", "resumed from step 20"]


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    write(tmp_path, report(10), sample(10))
    write(tmp_path, report(10, 7.0))
    journal = read_journal(tmp_path)
    assert [record["losses"]["G_GAN"] for record in journal.reports] == [7.0]
    assert len(journal.samples) == 1


def test_a_long_run_holds_some_of_its_reports_evenly() -> None:
    journal = Journal()
    for step in range(10, 10 * 5 * MAX_REPORTS, 10):
        journal.add(report(step))
    steps = [record["step"] for record in journal.reports]
    assert MAX_REPORTS / 2 <= len(steps) <= MAX_REPORTS + 1
    assert (steps[0], steps[-1]) == (10, 10 * 5 * MAX_REPORTS - 10)
    assert len({b - a for a, b in pairwise(steps[:-1])}) == 1
    journal.add(report(steps[-1] // 2, 7.0))  # resumed from half of it
    assert journal.reports[-1]["losses"]["G_GAN"] == 7.0
    assert all(record["step"] < steps[-1] // 2 for record in journal.reports[:-1])


def test_what_is_written_is_what_will_be_read(tmp_path: Path) -> None:
    write(tmp_path, report(10), sample(10), {"event": "a"})
    log = MetricsLog(tmp_path)
    for record in (report(20, math.nan), sample(20), report(10, 7.0), {"event": "b"}):
        log.write(record)
    log.close()
    assert log.journal == read_journal(tmp_path)
    assert len(log.journal.events) == 2


def test_no_journal_yet(tmp_path: Path) -> None:
    assert read_journal(tmp_path).reports == []
