"""Traced steps as a file for Perfetto (https://ui.perfetto.dev) or chrome://tracing, and as a table of task times."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from vid2vid_dist.engine.plan.schedule import Run
from vid2vid_dist.engine.run.timing import WAIT, Span


@dataclass(frozen=True)
class TracedStep:
    """One step of one rank. `began`: seconds since the first traced step; `spans` count from there, and the planned
    runs from 0.
    """

    rank: int
    step: int
    began: float
    spans: list[Span]
    planned: list[Run]


def write_trace(path: Path, steps: Sequence[TracedStep]) -> None:
    """One process per rank with three tracks: what it did, its reductions and updates, and the plan.

    The plan is stretched to the length of the step: its order and proportions are what one compares.
    """
    events: list[dict[str, Any]] = []
    for rank in sorted({step.rank for step in steps}):
        events.append({"ph": "M", "name": "process_name", "pid": rank, "args": {"name": f"rank {rank}"}})
        events += [{"ph": "M", "name": "thread_name", "pid": rank, "tid": tid, "args": {"name": name}}
                   for tid, name in enumerate(("actual", "reductions and updates", "planned"))]
    lengths = {number: max(span.end for step in steps if step.step == number for span in step.spans)
               for number in {step.step for step in steps}}
    for step in steps:
        for span in step.spans:
            track = int(span.kind.startswith(("reduce/", "update/")))
            events.append(_event(span.name, span.kind, step.rank, track, step.began + span.start, span.seconds))
        stretch = lengths[step.step] / max((run.end for run in step.planned), default=1.0)
        events += [_event(run.task.name, run.task.cost_key, step.rank, 2, step.began + stretch * run.start,
                          stretch * (run.end - run.start)) for run in step.planned]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


def write_costs(path: Path, steps: Sequence[TracedStep]) -> None:
    """Median seconds of a unit of each kind of task, as `vid2vid-plan --costs` reads them."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for step in steps:
        for span in step.spans:
            if span.kind != WAIT:
                seconds[span.kind].append(span.seconds / span.units)
    path.write_text(json.dumps({kind: median(found) for kind, found in sorted(seconds.items())}, indent=1))


def _event(name: str, kind: str, rank: int, track: int, start: float, seconds: float) -> dict[str, Any]:
    return {"ph": "X", "name": name, "cat": kind.split("/")[0], "pid": rank, "tid": track, "ts": 1e6 * start,
            "dur": 1e6 * seconds}
