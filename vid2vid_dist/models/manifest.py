"""The list that lies beside weights, manifest.json: size and hash of each file, so that what is read is what was
written."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_path_within, parse_json, read_text, reading, shown

NAME = "manifest.json"
MAX_BYTES = 2**26

Entries = dict[str, dict[str, Any]]
"""`bytes` and `sha256` of files, by path within their folder."""


def entry_of(path: Path) -> dict[str, Any]:
    """Raises `OSError`."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def to_json(entries: Entries) -> dict[str, Any]:
    return {"n_files": len(entries), "files": entries}


def read_manifest(folder: Path) -> Entries:
    """Raises `OSError` and, for what `to_json` has not made, `ValueError`."""
    told = parse_json(read_text(folder / NAME, MAX_BYTES))
    try:
        entries = {name: {key: entry[key] for key in ("bytes", "sha256")} for name, entry in told["files"].items()}
        n_files = told.get("n_files", len(entries))  # older ones do not count them
    except (KeyError, TypeError, AttributeError):
        raise ValueError("values of the wrong kind") from None
    if n_files != len(entries):
        raise ValueError(f"it names {len(entries)} of {shown(n_files)} files")
    return entries


def fault_of(folder: Path, name: str, entry: dict[str, Any]) -> str | None:
    """What is wrong with a file, or None. Raises `OSError`."""
    path = folder / name
    if not is_path_within(name):
        return f"{NAME} names {shown(name)}, which is not inside"
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{name} has {path.stat().st_size} bytes instead of {shown(entry['bytes'])}"
    return f"{name} was changed" if entry_of(path) != entry else None


def entries_beside(folder: Path, fix: str) -> Entries:
    """Of a folder of weights; nothing where it has no manifest, as earlier exports and bare weights.

    Raises `UserError`, ending with `fix`.
    """
    if not (folder / NAME).exists():
        return {}
    with reading(folder / NAME, fix):
        return read_manifest(folder)


def require_as_written(folder: Path, entries: Entries, names: Iterable[str], fix: str) -> None:
    """Raise `UserError`, ending with `fix`, if one of these files is not as `entries` tell; without any, they are
    taken as they are."""
    for name in names:
        with reading(folder / name, fix):
            fault = None if not entries else f"{NAME} does not name {name}" if name not in entries else fault_of(
                folder, name, entries[name])
        if fault is not None:
            raise UserError(f"{folder} is damaged ({fault}): {fix}")
