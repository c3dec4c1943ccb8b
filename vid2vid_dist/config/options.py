"""Every option as an object: its key, what it accepts, and the strict conversion of what was given."""

import math
from dataclasses import Field, dataclass, fields
from typing import Any, get_type_hints

from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_printable, shown

TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes",
              list[int]: "a list of whole numbers like [24, 26]"}


@dataclass(frozen=True)
class Option:
    """One key of the configuration: where it lives and what it accepts."""

    section: str
    field: Field
    type: Any

    @property
    def key(self) -> str:
        return f"{self.section}.{self.field.name}"

    @property
    def help(self) -> str:
        return self.field.metadata["help"]

    @property
    def unit(self) -> str:
        return self.field.metadata["unit"]

    @property
    def range(self) -> str:
        """Allowed words or inclusive range, for people; empty when anything of the type will do."""
        low, high = self.field.metadata["low"], self.field.metadata["high"]
        if self.field.metadata["choices"]:
            return " | ".join(self.field.metadata["choices"])
        if low is None:
            return ""
        return f">= {low}" if high is None else f"{low}..{high}"

    def get(self, config: Config) -> Any:
        return getattr(getattr(config, self.section), self.field.name)

    def set(self, config: Config, value: Any) -> None:
        setattr(getattr(config, self.section), self.field.name, value)

    def convert(self, given: Any, *, is_text: bool) -> Any:
        """The value of this option for what the user gave.

        Args:
            given: a word of the command line when `is_text`, else a value as YAML understood it.

        Raises:
            UserError: wrong type or out of range, without the source, which the caller knows.
        """
        try:
            value = _from_text(given, self.type) if is_text else _from_yaml(given, self.type)
        except (ValueError, OverflowError):
            raise UserError(f"{self.key}={shown(given)} must be {TYPE_NAMES[self.type]}") from None
        if isinstance(value, str) and not is_printable(value):
            raise UserError(f"{self.key} holds control characters: write plain text")
        low, high = self.field.metadata["low"], self.field.metadata["high"]
        choices = self.field.metadata["choices"]
        if choices and value not in choices:
            raise UserError(f"{self.key}={shown(given)} must be one of {self.range}")
        if (low is not None and value < low) or (high is not None and value > high):
            raise UserError(f"{self.key}={shown(given)} is out of range {self.range} ({self.help})")
        return value


def options() -> dict[str, Option]:
    """Every option by dotted key, in the order of the schema."""
    found = {}
    for section, section_type in get_type_hints(Config).items():
        types = get_type_hints(section_type)
        for field in fields(section_type):
            found[f"{section}.{field.name}"] = Option(section, field, types[field.name])
    return found


def _from_text(text: str, kind: Any) -> Any:
    """A word of the command line; text is taken as it stands, so it needs no quotes."""
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind == list[int]:
        return [int(item) for item in text.strip("[] ").split(",") if item.strip()]
    return _finite(text) if kind is float else int(text)


def _from_yaml(value: Any, kind: Any) -> Any:
    """A value of a file: YAML 1.1 takes 1e-4 for text, and Python takes true for the number 1."""
    if kind is float and type(value) in (int, float, str):
        return _finite(value)
    if kind == list[int] and type(value) is list and all(type(item) is int for item in value):
        return value
    if type(value) is not kind:
        raise ValueError(value)
    return value


def _finite(value: int | float | str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number
