"""Findings of a preflight: how each check ended, as a table and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

OK, WARNING, FAULT = "ok", "warning", "fault"


@dataclass(frozen=True)
class Check:
    """One check: its name, `OK`, `WARNING` or `FAULT`, and what was found, one line per finding."""

    name: str
    state: str
    found: tuple[str, ...]


def check(name: str, summary: str, faults: list[str], warnings: list[str] | None = None) -> Check:
    """The outcome of a check: `summary` when there is nothing to say against it."""
    if faults:
        return Check(name, FAULT, tuple(faults))
    if warnings:
        return Check(name, WARNING, tuple(warnings))
    return Check(name, OK, (summary,))


def table(checks: list[Check]) -> str:
    """One line per finding: state, check, what was found."""
    width = max(len(one.name) for one in checks)
    return "\n".join(f"{one.state if i == 0 else '':7}  {one.name if i == 0 else '':{width}}  {text}"
                     for one in checks for i, text in enumerate(one.found))


def to_json(checks: list[Check], figures: dict[str, Any]) -> dict[str, Any]:
    """For scripts: `ok`, the checks, and the figures behind them."""
    return {"ok": not any(one.state == FAULT for one in checks), "checks": [asdict(one) for one in checks], **figures}
