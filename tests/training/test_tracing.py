"""Recorded steps: what ran stands beside what was planned, and feeds the planner."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.torchrun import torchrun
from tests.training.conftest import SMALL
from vid2vid_dist.config.schema import Config
from vid2vid_dist.training.trainer import Trainer

COMMON = ["schedule.n_frames_total=4", "schedule.n_generator_slots=2", "monitor.log_every=1"]


def test_placed_steps_show_every_task_beside_the_plan(shards: Path, tmp_path: Path) -> None:
    arguments = [*SMALL, *COMMON, f"data.shards={shards}", f"run.root={tmp_path}", "run.name=placed", "run.max_steps=3"]
    result = torchrun(2, "launch/train.py", "configs/base.yaml", *arguments, "parallel.placement=split:1+1",
                      "monitor.trace_steps=2-3", "optim.backend=plain")
    assert result.returncode == 0, result.stdout
    folder = tmp_path / "placed/traces"
    events = json.loads((folder / "steps_2-3.json").read_text())["traceEvents"]
    tracks = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert tracks == {"actual", "reductions and updates", "planned"}
    for rank in (0, 1):
        mine = [event for event in events if event["pid"] == rank and event["ph"] == "X"]
        ran = sorted(event["name"] for event in mine if event["tid"] == 0 and event["cat"] != "wait")
        planned = sorted(event["name"] for event in mine
                         if event["tid"] == 2 and not event["name"].startswith(("reduce ", "update ")))
        assert ran == planned
        assert ran
        assert all(event["dur"] >= 0 <= event["ts"] for event in mine)
        beside = {event["name"] for event in mine if event["tid"] == 1}
        assert ("reduce generator" in beside, "update image" in beside) == (rank == 0, rank == 1)
    assert any(event["name"].startswith("generator synthesis") for event in events if event["pid"] == 0)

    lines = map(json.loads, (tmp_path / "placed/metrics.jsonl").read_text().splitlines())
    reports = [line for line in lines if "losses" in line]
    assert all(len(line["busy"]) == len(line["waiting"]) == 2 for line in reports)
    assert all(0 < part < 1 for part in reports[0]["busy"])

    plan = subprocess.run([sys.executable, "launch/plan.py", "configs/base.yaml", "--ranks", "2", "--costs",
                           str(folder / "costs.json"), *arguments],
                          cwd=ROOT, capture_output=True, text=True, check=False)
    assert plan.returncode == 0, plan.stderr


def test_a_rank_alone_shows_its_tasks_and_feeds_the_planner(configure, grid) -> None:
    cfg: Config = configure("run.max_steps=2", "monitor.trace_steps=2")
    Trainer(cfg, grid).run()
    folder = Path(cfg.run.root) / cfg.run.name / "traces"
    events = json.loads((folder / "steps_2.json").read_text())["traceEvents"]
    ran = {event["name"] for event in events if event["ph"] == "X"}
    assert {"generator synthesis lane 0 frame 0", "image fake lane 0 frame 0", "update generator"} <= ran
    costs = json.loads((folder / "costs.json").read_text())
    assert {"generator/synthesis_backward/0", "image/real/0", "generator/update/0"} <= set(costs)
    assert all(seconds > 0 for seconds in costs.values())
