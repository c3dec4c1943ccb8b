"""The journal of a run, metrics.jsonl: one JSON object per line, from which everything else can be drawn."""

import json
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vid2vid_dist.untrusted import is_whole, parse_json

log = logging.getLogger(__name__)

Record = dict[str, Any]
MAX_LINE = 2**20  # bytes
MAX_REPORTS = 2000  # that are held: the page is drawn from all of them at every sample, and long runs make 50 000


class MetricsLog:
    """Appends records to `metrics.jsonl`; each is on its way to the disk before `write` returns.

    Where the disk is full a record is kept, and written before the next one: no line is lost or torn by it.
    JSON has no NaN: a number that is not finite becomes "nan", "inf" or "-inf", which `float()` reads.
    `journal`: what the file says, from the run's first start on.
    """

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        path = run_dir / "metrics.jsonl"
        self.journal = read_journal(run_dir)
        self._file: IO[bytes] | None = None
        self._pending = b""
        try:
            if path.exists() and not path.is_file():
                raise OSError("not a regular file")
            torn = path.exists() and path.stat().st_size > 0 and not _ends_with_newline(path)
            self._file = path.open("ab", buffering=0)
            self._pending = b"\n" if torn else b""  # the last run died in the middle of a line: keep the next off it
        except OSError as error:
            log.warning("%s cannot be written to (%s): this run keeps no journal", path, error)

    def write(self, record: Record) -> None:
        """Append one record, with the time (seconds since 1970) in front. Raises `OSError` if there is no room yet."""
        record = _finite({"time": round(time.time(), 3), **record})
        self.journal.add(record)
        self._pending += f"{json.dumps(record, allow_nan=False)}\n".encode()
        self._flush()

    def close(self) -> None:
        """Raises `OSError` if records are lost, as there is still no room."""
        try:
            self._flush()
        finally:
            if self._file is not None:
                self._file.close()

    def _flush(self) -> None:
        if self._file is None:
            self._pending = b""
        while self._pending:
            assert self._file is not None
            self._pending = self._pending[self._file.write(self._pending):]


@dataclass
class Journal:
    """What a metrics.jsonl says, in the order of the steps. Where a resumed run went back, the steps that it left
    behind are dropped."""

    samples: list[Record] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)
    validations: list[Record] = field(default_factory=list)
    _held: list[Record] = field(default_factory=list)  # of the reports: number 0, _every, 2 * _every, …
    _every: int = 1
    _n_reports: int = 0
    _last: Record | None = None  # report, held or not
    _newest: int = -1  # step

    @property
    def reports(self) -> list[Record]:
        """All of them up to `MAX_REPORTS`; of more, some at even distances, and the last."""
        if self._last is None or (self._held and self._held[-1] is self._last):
            return self._held
        return [*self._held, self._last]

    def add(self, record: Record) -> None:
        """Take up the next record."""
        if "event" in record:
            self.events.append(record)
            return
        step = record["step"]
        if step < self._newest:
            self.samples = [old for old in self.samples if old["step"] < step]
            self.validations = [old for old in self.validations if old["step"] < step]
            self._held = [old for old in self._held if old["step"] < step]
            self._n_reports, self._last = len(self._held) * self._every, None
        self._newest = step
        if "sample" in record or "validation" in record:
            _put(self.samples if "sample" in record else self.validations, record)
            return
        self._last = record
        if self._n_reports % self._every == 0:
            _put(self._held, record)
        self._n_reports += 1
        if len(self._held) > MAX_REPORTS:
            self._held, self._every = self._held[::2], 2 * self._every


def _put(records: list[Record], record: Record) -> None:
    """At the end, in place of a record of the same step."""
    if records and records[-1]["step"] == record["step"]:
        records.pop()
    records.append(record)


def read_journal(run_dir: Path) -> Journal:
    """The journal of a run's metrics.jsonl; an empty one where there is none. Lines that are none of ours are left
    out, and counted in the log: the last one of a run that died is one of them."""
    journal, path, n_odd = Journal(), run_dir / "metrics.jsonl", 0
    if not path.is_file():
        return journal
    try:
        with path.open("rb") as lines:
            while line := lines.readline(MAX_LINE):
                try:
                    journal.add(_record(line))
                except ValueError:
                    n_odd += 1
    except OSError as error:
        log.warning("%s cannot be read (%s): curves begin anew", path, error)
    if n_odd:
        log.warning("%s: %d lines of it are none of ours, and are left out", path, n_odd)
    return journal


def _record(line: bytes) -> Record:
    """What a line says. Raises `ValueError` when that cannot be a record."""
    record = parse_json(line.decode())
    if not isinstance(record, dict) or not (isinstance(record.get("event"), str) or is_whole(record.get("step"))):
        raise ValueError
    return record


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
