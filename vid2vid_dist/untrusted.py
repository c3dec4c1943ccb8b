"""Reading what others wrote: whatever the bytes hold, the answer is a value that was checked, or an error that says so.

A shard folder, a configuration or a checkpoint may be a download. None of them may hang the reader, fill its memory,
name a file outside its folder, or end in a traceback.
"""

from __future__ import annotations

import json
import stat
import unicodedata
from pathlib import Path
from typing import Any

from vid2vid_dist.errors import UserError

MAX_NAME_BYTES = 255  # what Linux file systems take


def read_text(path: Path, max_bytes: int) -> str:
    """The UTF-8 text of a file, else as `read_bytes`; also a `ValueError` when it is not UTF-8."""
    try:
        return read_bytes(path, max_bytes).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file. Devices and pipes, which may never end, are not read.

    Raises:
        OSError: no such file, or not readable.
        ValueError: not a regular file, or larger than `max_bytes`; the message says which.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"larger than {max_bytes} bytes")
    return data


def read_pointer(path: Path) -> str:
    """The name of a folder beside `path`, which holds nothing else. Raises `UserError` for what leads elsewhere."""
    try:
        name = read_text(path, 2 * MAX_NAME_BYTES).strip()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): write the name of a checkpoint beside it into it") from None
    if not is_file_name(name):
        raise UserError(f"{path} names no folder beside it: write the name of a checkpoint beside it into it")
    return name


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises `ValueError` for everything that is none, nests too deep or is not finite."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def is_whole(value: object, low: int = 0, high: int = 2**62) -> bool:
    """Whether a JSON value is a whole number within bounds; true and 1.0 are none."""
    return type(value) is int and low <= value <= high


def is_printable(text: object) -> bool:
    """Whether a value is text without control characters and lone surrogates: it can be shown and be part of a path."""
    if not isinstance(text, str) or text.isprintable():
        return isinstance(text, str)
    return not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


def is_file_name(name: object) -> bool:
    """Whether a value names a file directly in a folder: nothing that leaves it."""
    return (isinstance(name, str) and is_printable(name) and name not in ("", ".", "..") and "/" not in name
            and len(name.encode()) <= MAX_NAME_BYTES)


def is_path_within(path: object) -> bool:
    """Whether a value is a relative path of plain names: it stays below the folder that it is joined to."""
    return isinstance(path, str) and all(map(is_file_name, path.split("/")))


def shown(value: object, longest: int = 80) -> str:
    """A value of any kind and size for a message: one short line that does nothing to a terminal."""
    if isinstance(value, int) and value.bit_length() > 4 * longest:
        return "a number with too many digits"  # Python refuses to print some of them
    if isinstance(value, list | tuple):
        value = "[" + ", ".join(shown(item) for item in value[:8]) + (", …]" if len(value) > 8 else "]")
    text = str(value)[: longest + 1]
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return text if len(text) <= longest else f"{text[:longest]}…"


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")
