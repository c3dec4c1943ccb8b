"""Traced steps as a file for Perfetto (https://ui.perfetto.dev) or chrome://tracing, and as a table of task times."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from vid2vid_dist.engine.plan.costs import Costs
from vid2vid_dist.engine.plan.schedule import Run
from vid2vid_dist.engine.plan.tasks import COLLECTIVE, CostKey, Kind
from vid2vid_dist.engine.run.timing import Span
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import parse_json, read_text


@dataclass(frozen=True)
class TracedStep:
    """One step of one rank. `began`: seconds since the first traced step; `spans` count from there, and the planned
    runs from 0."""

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
            track = int(span.key is not None and span.key.kind in COLLECTIVE)
            events.append(_event(span.name, span.key, step.rank, track, step.began + span.start, span.seconds))
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
            if span.key is not None:
                seconds[str(span.key)].append(span.seconds / span.units)
    path.write_text(json.dumps({kind: median(found) for kind, found in sorted(seconds.items())}, indent=1))


def read_costs(costs: Costs, path: Path | None) -> Costs:
    """Costs with the seconds of a JSON file {"ROLE/KIND/SCALE": seconds} in place of the model's; None = no file. Of
    reductions the number of the bucket stands in the scale's place.

    Raises `UserError` for a file that is not such a table or names tasks that there are not.
    """
    if path is None:
        return costs
    try:
        table = parse_json(read_text(path, 2**20))
        measured = {str(key): float(value) for key, value in table.items()}
        if not all(0 <= seconds < math.inf for seconds in measured.values()):
            raise ValueError("seconds below 0")
    except (OSError, ValueError, ArithmeticError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is no table of task times ({error}): write {{\"ROLE/KIND/SCALE\": seconds}}") from None
    known = {str(key): key for key in (
        *costs.work, *(CostKey(role, Kind.UPDATE) for role in costs.parameters),
        *(CostKey(bucket.role, Kind.REDUCE, bucket=bucket.number) for bucket in costs.buckets))}
    unknown = sorted(set(measured) - set(known))
    if unknown:
        raise UserError(f"{path}: no task of this configuration is called {', '.join(unknown)}: "
                        f"choose from {', '.join(sorted(known))}")
    return replace(costs, measured=costs.measured | {known[name]: seconds for name, seconds in measured.items()})


def _event(name: str, key: CostKey | None, rank: int, track: int, start: float, seconds: float) -> dict[str, Any]:
    return {"ph": "X", "name": name, "cat": key.role if key else "wait", "pid": rank, "tid": track, "ts": 1e6 * start,
            "dur": 1e6 * seconds}
