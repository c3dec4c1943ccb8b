"""Look at configurations.

    python -m vid2vid_dist.config show [FILE] [key=value …]   the resolved values and their sources
    python -m vid2vid_dist.config template                    every key, commented (= configs/base.yaml)
"""

import sys
import textwrap

import yaml

from vid2vid_dist.config.load import resolve, split_arguments
from vid2vid_dist.config.options import Option, options
from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError

HEADER = """\
# Every option with its default. Written by `python -m vid2vid_dist.config template`.
# A configuration of your own holds only what differs from this file.
"""


def show(arguments: list[str]) -> str:
    """One line per key: value and where it came from."""
    resolved = resolve(*split_arguments(arguments))
    rows = [(f"{key} = {_yaml(option.get(resolved.config))}", resolved.sources[key])
            for key, option in options().items()]
    width = max(len(assignment) for assignment, _ in rows)
    return "".join(f"{assignment:{width}}  # {source}\n" for assignment, source in rows)


def template() -> str:
    """The base file: every key with its help, unit, range and default."""
    lines = [HEADER]
    section = ""
    for option in options().values():
        if option.section != section:
            section = option.section
            # The parenthesis of the docstring cites sources for readers of the code.
            docstring = type(getattr(Config(), section)).__doc__ or ""
            purpose = docstring.split(" (")[0].rstrip(".")
            lines.append(f"\n{section}:  # {purpose}\n")
        lines.append(_describe(option))
    return "".join(lines)


def _describe(option: Option) -> str:
    facts = [fact for fact in (option.unit, option.range) if fact]
    comment = option.help + (f" [{', '.join(facts)}]" if facts else "")
    text = textwrap.fill(comment, 108, initial_indent="  # ", subsequent_indent="  #   ",
                         break_long_words=False, break_on_hyphens=False)
    return f"{text}\n  {option.field.name}: {_yaml(option.get(Config()))}\n"


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def main(arguments: list[str]) -> int:
    """Run one of the two commands; a user's mistake is one line on stderr and status 2."""
    command, *rest = arguments or ["help"]
    try:
        if command == "show":
            print(show(rest), end="")
        elif command == "template" and not rest:
            print(template(), end="")
        else:
            raise UserError(f"no such command: {' '.join(arguments)}: give show or template")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
