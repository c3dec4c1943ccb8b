"""Reading what others wrote: whatever the bytes hold, the answer is a value that was checked, or an error that says so.

A shard folder, a configuration or a checkpoint may be a download. None of them may hang the reader, fill its memory,
name a file outside its folder, or end in a traceback.
"""

import json
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from vid2vid_dist.errors import UserError

MAX_NAME_BYTES = 255  # what Linux file systems take
MAX_OBJECT_BYTES = 2**20  # small JSON files of a run
MAX_YAML_BYTES = 2**18  # base.yaml, with every key explained, is a tenth of it


@contextmanager
def reading(path: Path, fix: str) -> Iterator[None]:
    """Around a reader of a file that may be damaged: whatever it raises becomes a `UserError` with the file and `fix`.

    Decoders raise whatever there is; memory that runs out is no fault of the file.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise UserError(f"{path} cannot be read ({reason(error)}): {fix}") from error


def reason(error: BaseException) -> str:
    """What went wrong, in a few words, without the place."""
    said = (error.strerror if isinstance(error, OSError) else "") or str(error).split("\n")[0]
    return shown(said, 200) if said else type(error).__name__


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


class YamlLoader(yaml.SafeLoader):
    """YAML in which an alias stands for a value or a list of values, once each: nothing grows by it."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        alias = self.check_event(yaml.AliasEvent) and self.peek_event()
        node = super().compose_node(parent, index)
        inner = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if alias and not all(isinstance(item, yaml.ScalarNode) for item in inner):
            raise yaml.MarkedYAMLError(problem="an alias of a section: write it out", problem_mark=alias.start_mark)
        return node


def read_object(path: Path) -> dict:
    """What a small JSON file of a run says; nothing if it is damaged or none of ours."""
    try:
        found = parse_json(read_text(path, MAX_OBJECT_BYTES))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_yaml(path: Path) -> Any:
    """The value of a YAML file. Raises `OSError`, and `ValueError` for everything that is none."""
    try:
        return YamlLoader(read_text(path, MAX_YAML_BYTES)).get_single_data()
    except RecursionError:
        raise ValueError("nested too deep") from None
    # Of tags by hand, as in `!!int x`, and of escapes beyond Unicode.
    except (yaml.YAMLError, LookupError, ArithmeticError, AttributeError, TypeError) as error:
        raise ValueError(f"not valid YAML: {reason(error)}") from None


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
