"""The journal of a run, metrics.jsonl: one JSON object per line, from which everything else can be drawn."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class MetricsLog:
    """Appends records to `metrics.jsonl`; each is on its way to the disk before `write` returns.

    Where the disk is full a record is kept, and written before the next one: no line is lost or torn by it.
    JSON has no NaN: a number that is not finite becomes "nan", "inf" or "-inf", which `float()` reads.
    """

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        path = run_dir / "metrics.jsonl"
        torn = path.exists() and path.stat().st_size > 0 and not _ends_with_newline(path)
        self._file = path.open("ab", buffering=0)
        self._pending = b"\n" if torn else b""  # the last run died in the middle of a line: keep the next one off it

    def write(self, record: Record) -> None:
        """Append one record, with the time (seconds since 1970) in front. Raises `OSError` if there is no room yet."""
        line = json.dumps(_finite({"time": round(time.time(), 3), **record}), allow_nan=False)
        self._pending += f"{line}\n".encode()
        self._flush()

    def close(self) -> None:
        """Raises `OSError` if records are lost, as there is still no room."""
        try:
            self._flush()
        finally:
            self._file.close()

    def _flush(self) -> None:
        while self._pending:
            self._pending = self._pending[self._file.write(self._pending):]


@dataclass
class Journal:
    """What a metrics.jsonl says, in order of the steps."""

    reports: list[Record] = field(default_factory=list)
    samples: list[Record] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)


def read_journal(run_dir: Path) -> Journal:
    """Read a run's metrics.jsonl. Where a resumed run went back, the steps it left behind are dropped."""
    path = run_dir / "metrics.jsonl"
    reports: dict[int, Record] = {}
    samples: dict[int, Record] = {}
    events: list[Record] = []
    newest = -1
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn: the run died while it wrote this line
        if "event" in record:
            events.append(record)
            continue
        step = record["step"]
        if step < newest:
            reports = {k: v for k, v in reports.items() if k < step}
            samples = {k: v for k, v in samples.items() if k < step}
        (samples if "sample" in record else reports)[step] = record
        newest = step
    return Journal(list(reports.values()), list(samples.values()), events)


def _finite(value: Any) -> Any:
    """`value` with every float that JSON cannot say as a string."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
