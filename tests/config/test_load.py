"""Configuration loading: conversion, inheritance, sources, and every way to get it wrong."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vid2vid_dist.config.load import flatten, load_config, resolve, split_arguments, to_yaml
from vid2vid_dist.config.options import Option, options
from vid2vid_dist.config.schema import Config
from vid2vid_dist.errors import UserError


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config(None) == Config()


@pytest.mark.parametrize(("override", "key", "value"), [
    ("optim.lr=1e-4", "optim.lr", 1e-4),
    ("optim.lr=0", "optim.lr", 0.0),
    ("generator.fg_labels=24,26", "generator.fg_labels", [24, 26]),
    ("generator.fg_labels=[24, 26]", "generator.fg_labels", [24, 26]),
    ("generator.no_flow=true", "generator.no_flow", True),
    ("run.name=007", "run.name", "007"),
    ("run.name=a=b", "run.name", "a=b"),
    ("data.label_nc=20", "data.label_nc", 20),
])
def test_override(override: str, key: str, value: object) -> None:
    result = flatten(load_config(None, [override]))[key]
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(("text", "key", "value"), [
    ("optim: {lr: 1e-4}", "optim.lr", 1e-4),  # YAML 1.1 takes this for text
    ("optim: {lr: 0}", "optim.lr", 0.0),
    ("optim: {lr: '0.001'}", "optim.lr", 0.001),
    ("generator: {fg_labels: [24, 26]}", "generator.fg_labels", [24, 26]),
    ("run: {name: 'no'}", "run.name", "no"),
    ("run: {seed: 0x10}", "run.seed", 16),
])
def test_file_value(tmp_path: Path, text: str, key: str, value: object) -> None:
    result = flatten(load_config(write(tmp_path, text)))[key]
    assert result == value
    assert type(result) is type(value)


def test_empty_file_and_empty_section_change_nothing(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "# nothing\n")) == Config()
    assert load_config(write(tmp_path, "data:\n# all commented out\n")) == Config()


def test_later_settings_win_and_sources_say_so(tmp_path: Path) -> None:
    write(tmp_path, "optim:\n  lr: 0.001\n  beta1: 0.9\n", "street.yaml")
    path = write(tmp_path, "optim:\n  lr: 0.002\nbase: street.yaml\nrun:\n  seed: 1\n", "small.yaml")
    resolved = resolve(path, ["run.seed=2", "run.seed=3"])
    config = resolved.config
    assert (config.optim.lr, config.optim.beta1, config.run.seed) == (0.002, 0.9, 3)
    assert resolved.sources["optim.lr"] == f"{path}:2"
    assert resolved.sources["optim.beta1"] == f"{tmp_path / 'street.yaml'}:3"
    assert resolved.sources["run.seed"] == "command line"
    assert resolved.sources["run.name"] == "default"


@pytest.mark.parametrize(("override", "message"), [
    ("optim.lr=2", "command line: optim.lr=2 is out of range 0..1 (learning rate at the start)"),
    ("optim.lr=nan", "optim.lr=nan must be a number"),
    ("optim.lr=", "optim.lr= must be a number"),
    ("monitor.log_every=0", "monitor.log_every=0 is out of range >= 1"),
    ("data.label_nc=35.0", "data.label_nc=35.0 must be a whole number"),
    ("data.use_instance=1", "data.use_instance=1 must be true or false"),
    ("generator.fg_labels=car", "generator.fg_labels=car must be a list of whole numbers"),
    ("run.device=tpu", "run.device=tpu must be one of auto | cpu | cuda"),
    ("data.lable_nc=35", "unknown key data.lable_nc: did you mean data.label_nc?"),
    ("ngf=64", "unknown key ngf: did you mean generator.ngf?"),
    ("data.ngf=64", "unknown key data.ngf: did you mean generator.ngf?"),
    ("genrator.fg=true", "unknown key genrator.fg: did you mean generator.fg?"),
    ("x.qqq=1", "unknown key x.qqq: `python -m vid2vid_dist.config template` lists all"),
    ("data=35", "data is a section: give data.KEY=value"),
    ("run.name", "'run.name' is not an override: write section.key=value"),
    ("optim.precision=fp64", "needs optim.backend=plain"),
    ("generator.netG=global", "set generator.no_flow=true, generator.no_first_img=true, generator.norm=instance"),
    ("flow.network=none", "temporal discriminators, warp losses and predicted flow need it"),
    ("run.name=../../up", "run.name=../../up must name a folder of its own below run.root"),
    ("run.name=/etc/up", "run.name=/etc/up must name a folder of its own"),
    (f"run.name={'é' * 128}", "must name a folder of its own"),
    ("run.name=a\nb", "run.name holds control characters"),
    ("generator.style_nc=65", "generator.style_nc=65 is out of range 0..64"),
])
def test_wrong_override(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(None, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize("other", ["loss.r1_gamma=1", "optim.label_conv=gather"])
def test_what_cannot_be_compiled_is_refused(other: str) -> None:
    with pytest.raises(UserError, match=rf"^optim\.compile=tasks: .*{other.partition('=')[0]}.*optim\.compile=off"):
        load_config(None, ["optim.compile=tasks", other])


@pytest.mark.parametrize(("text", "message"), [
    ("data:\n  label_nc: 35\n  shrads: x\n", "run.yaml:3: unknown key data.shrads: did you mean data.shards"),
    ("dtaa:\n  label_nc: 35\n", "run.yaml:1: unknown key dtaa"),
    ("label_nc: 35\n", "run.yaml:1: unknown key label_nc: did you mean data.label_nc?"),
    ("data:\n  label_nc: true\n", "run.yaml:2: data.label_nc=True must be a whole number"),
    ("data:\n  no_flip: 1\n", "run.yaml:2: data.no_flip=1 must be true or false"),
    ("run:\n  name: 512\n", "run.yaml:2: run.name=512 must be text in quotes"),
    ("run:\n  name: 2020-99-99\n", "run.yaml:2: YAML cannot make a value of this"),
    ("optim:\n  lr: .inf\n", "run.yaml:2: optim.lr=inf must be a number"),
    ("optim:\n  lr:\n", "run.yaml:2: optim.lr=None must be a number"),
    ("generator:\n  fg_labels: [24, car]\n", "run.yaml:2: generator.fg_labels"),
    ("data:\n  loadSize: 512\n  loadSize: 256\n", "run.yaml:3: loadSize is given twice"),
    ("data:\n  - label_nc\n", "run.yaml:2: write lines `key: value`"),
    ("data: [1, 2\noptim:\n", "run.yaml:2: not valid YAML"),
    ("run:\n  name: !!python/object:os.system x\n", "run.yaml:2: YAML cannot make a value of this"),
    ("optim.lr: 1e-3\n", "run.yaml:1: optim.lr is a key of the command line: write `optim:`"),
    ("base: [a.yaml]\n", "run.yaml:1: write one word here"),
    ("\x00", "run.yaml: not a YAML text file"),
])
def test_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(write(tmp_path, text))
    assert message in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the configuration file .*absent\.yaml: No such file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match=r"cannot read .*gone\.yaml"):
        load_config(write(tmp_path, "base: gone.yaml\n"))


def test_circle_of_bases_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "base: b.yaml\n", "a.yaml")
    path = write(tmp_path, "base: a.yaml\n", "b.yaml")
    with pytest.raises(UserError, match=r"goes in a circle: .*b\.yaml -> .*a\.yaml -> .*b\.yaml"):
        load_config(path)


def test_split_arguments() -> None:
    assert split_arguments([]) == (None, [])
    assert split_arguments(["run.seed=1", "a.yaml", "ngf=2"]) == (Path("a.yaml"), ["run.seed=1", "ngf=2"])
    with pytest.raises(UserError, match="one configuration file at most"):
        split_arguments(["a.yaml", "b.yaml"])
    with pytest.raises(UserError, match="--max-steps: write settings as key=value"):
        split_arguments(["a.yaml", "--max-steps", "5"])


def values(option: Option) -> st.SearchStrategy:
    """Any value that the option accepts."""
    meta = option.field.metadata
    if meta["choices"]:
        return st.sampled_from(meta["choices"])
    if option.type is bool:
        return st.booleans()
    if option.type is int:
        return st.integers(meta["low"], meta["high"])
    if option.type is float:
        return st.floats(meta["low"], meta["high"], allow_nan=False, allow_infinity=False)
    if option.type is str:
        return st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
    return st.lists(st.integers(0, 255), max_size=4)


ANY_VALUES = st.fixed_dictionaries({key: values(option) for key, option in options().items()})


@given(ANY_VALUES)
def test_yaml_round_trip(given_values: dict) -> None:
    config = Config()
    for key, option in options().items():
        option.set(config, given_values[key])
    for section, entries in yaml.safe_load(to_yaml(config)).items():
        for name, value in entries.items():
            option = options()[f"{section}.{name}"]
            assert option.convert(value, is_text=False) == given_values[option.key]


def test_saved_configuration_loads_to_itself(tmp_path: Path) -> None:
    config = load_config(None, ["optim.lr=1e-5", "run.name=yes", "generator.fg=true", "data.label_nc=30"])
    assert load_config(write(tmp_path, to_yaml(config))) == config
