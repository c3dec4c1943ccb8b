"""YAML file + `section.key=value` overrides -> `Config`, strictly and with the source of every value.

A file holds only what differs from the defaults; `base: other.yaml` (relative to the file, or a recipe) names a file
that it differs from instead. Unknown keys, wrong types and values out of range are refused.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from vid2vid_dist.config.options import options
from vid2vid_dist.config.recipes import find_config
from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import MAX_YAML_BYTES, YamlLoader, is_printable, read_text, shown

COMMAND_LINE = "command line"
MAX_BASES = 16  # files that build on each other
MAX_SCALAR = 4096  # characters of a value


@dataclass(frozen=True)
class Resolved:
    """A configuration and the source of each value by dotted key: default, `file:line` or command line."""

    config: Config
    sources: dict[str, str]


@dataclass(frozen=True)
class Setting:
    """One value that somebody gave: text on the command line, YAML's idea of it in a file."""

    key: str
    given: Any
    source: str


def load_config(path: Path | str | None, overrides: Sequence[str] = ()) -> Config:
    """The checked configuration of a file or recipe (None = the defaults) and overrides `section.key=value`.

    Raises:
        UserError: no such file, bad YAML, unknown key, wrong type, out of range, impossible combination.
    """
    return resolve(path, overrides).config


def resolve(path: Path | str | None, overrides: Sequence[str] = ()) -> Resolved:
    """Like `load_config`, and says where each value came from. Later settings win over earlier ones."""
    config, known = Config(), options()
    sources = dict.fromkeys(known, "default")
    from_file = _read_file(find_config(path), ()) if path else []
    for setting in [*from_file, *map(_parse_override, overrides)]:
        try:
            if setting.key not in known:
                raise UserError(_unknown(setting.key, list(known)))
            option = known[setting.key]
            option.set(config, option.convert(setting.given, is_text=setting.source == COMMAND_LINE))
        except UserError as error:
            raise UserError(f"{setting.source}: {error}") from None
        sources[setting.key] = setting.source
    config.check()
    return Resolved(config, sources)


def split_arguments(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """`[FILE] [key=value …]` of a command line -> file, overrides."""
    files = [argument for argument in arguments if "=" not in argument]
    if option := next((name for name in files if name.startswith("-")), ""):
        raise UserError(f"{option}: write settings as key=value, like run.max_steps=100")
    if len(files) > 1:
        raise UserError(f"one configuration file at most, got {' '.join(files)} (an override is key=value)")
    return (Path(files[0]) if files else None), [argument for argument in arguments if "=" in argument]


def flatten(config: Config) -> dict[str, Any]:
    """The values by dotted key."""
    return {key: option.get(config) for key, option in options().items()}


def to_yaml(config: Config) -> str:
    """Every value as YAML; loading it gives an equal configuration."""
    return yaml.safe_dump(asdict(config), sort_keys=False)


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration of a run."""
    path.write_text(to_yaml(config))


def _read_file(path: Path, chain: tuple[Path, ...]) -> list[Setting]:
    """The settings of a file, those of its base first; `chain` holds the files whose base this is."""
    if path.resolve() in chain:
        raise UserError(f"{path}: `base` goes in a circle: {' -> '.join(map(str, [*chain, path.resolve()]))}: "
                        "leave one of them out")
    if len(chain) == MAX_BASES:
        raise UserError(f"{path}: more than {MAX_BASES} files build on each other: join some of them")
    inherited: list[Setting] = []
    own: list[Setting] = []
    sections = {key.split(".")[0] for key in options()}
    for name, node, source in _items(_compose(path), path):
        if name == "base":
            inherited = _read_file(find_config(_file_name(node, source), path.parent), (*chain, path.resolve()))
        elif name in sections:
            own += [Setting(f"{name}.{key}", _construct(value, where), where)
                    for key, value, where in _items(node, path)]
        elif "." in name:
            section, _, key = name.partition(".")
            raise UserError(f"{source}: {shown(name)} is a key of the command line: write `{shown(section)}:`, and "
                            f"below it, indented, `{shown(key)}: …`")
        else:
            own.append(Setting(name, None, source))
    return inherited + own


def _compose(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(read_text(path, MAX_YAML_BYTES), YamlLoader)
    except OSError as error:
        raise UserError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: not valid YAML: {error.problem}: correct this line") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deep: write a configuration file of sections with keys") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: \\U escapes beyond Unicode
        reason = "a character that YAML does not allow" if isinstance(error, yaml.YAMLError) else error
        raise UserError(f"{path}: not a YAML text file ({reason}): store it as UTF-8") from None


def _items(node: yaml.Node | None, path: Path) -> Iterator[tuple[str, yaml.Node, str]]:
    """Key, value and `file:line` of a YAML mapping; an empty document or section has none."""
    if node is None or node.tag == "tag:yaml.org,2002:null":
        return
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}:{node.start_mark.line + 1}: write lines `key: value` here")
    seen: set[str] = set()
    for key, value in node.value:
        source = f"{path}:{key.start_mark.line + 1}"
        name = _scalar(key, source)
        if name in seen:
            raise UserError(f"{source}: {name} is given twice: leave one out")
        seen.add(name)
        yield name, value, source


def _scalar(node: yaml.Node, source: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise UserError(f"{source}: write one word here")
    return node.value


def _file_name(node: yaml.Node, source: str) -> str:
    name = _scalar(node, source)
    if not is_printable(name):
        raise UserError(f"{source}: control characters in a file name")
    return name


def _construct(node: yaml.Node, source: str) -> Any:
    """A scalar or a list of scalars, which is all that options take: aliases cannot make more of it than there is."""
    if isinstance(node, yaml.SequenceNode):
        return [_construct_scalar(item, source) for item in node.value]
    return _construct_scalar(node, source)


def _construct_scalar(node: yaml.Node, source: str) -> Any:
    try:
        if not isinstance(node, yaml.ScalarNode) or len(node.value) > MAX_SCALAR:
            raise ValueError
        return yaml.SafeLoader("").construct_object(node)
    # The last three: tags by hand, as in `!!int x` and `!!bool x`.
    except (yaml.YAMLError, ValueError, LookupError, ArithmeticError, AttributeError):
        raise UserError(f"{source}: YAML cannot make a value of this") from None


def _parse_override(text: str) -> Setting:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{text!r} is not an override: write section.key=value")
    return Setting(key, value, COMMAND_LINE)


def _unknown(key: str, known: list[str]) -> str:
    """The message for an unknown key, with the nearest valid name when there is one."""
    key = shown(key)  # comparing takes the product of the lengths
    leaf = key.rpartition(".")[2]
    if any(name.startswith(f"{key}.") for name in known):
        return f"{key} is a section: give {key}.KEY=value"
    by_leaf = {name.split(".")[1]: name for name in known}
    near = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.75)
    nearest = ([name for name in known if name.split(".")[1] == leaf]
               or [by_leaf[match] for match in near]
               or difflib.get_close_matches(key, known, n=1))
    hint = f"did you mean {nearest[0]}?" if nearest else "`python -m vid2vid_dist.config template` lists all"
    return f"unknown key {key}: {hint}"
