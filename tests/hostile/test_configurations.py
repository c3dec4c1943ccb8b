"""Configuration files and overrides from anywhere."""

import os
import random
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.engine.plans import specs_of
from tests.hostile.attack import VALUES, attack, examples, mutate, nested, watched
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.options import options
from vid2vid_dist.engine.plan.placement import explicit
from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import MAX_YAML_BYTES

TOKENS = [token.encode("utf-8", "surrogatepass") for token in (
    "&a ", "*a", "<<: *a", "!!int x", "!!int ''", "!!bool x", "!!timestamp x", "!!float ''",
    "!!python/object/apply:os.system [x]", "!!binary x", "!!set {a}", "!!omap [a]", "!!merge x", "!!null x", "!<",
    "!!str", "? ", ": ", "- ", "[", "]", "{", "}", "|", ">", "'", '"', "%YAML 9.9\n", "%TAG ! x\n", "---\n", "...\n",
    "\t", "\0", "\ud800", '"\\uD800"', '"\\UFFFFFFFF"', '"\\U00110000"', '"\\0"', "0x" + "f" * 5000, "9" * 5000,
    "1:" * 300 + "1", "1e999", "-.inf", ".nan", "2020-99-99", "0o9", "0b2", "..", "/etc/passwd", "/dev/zero",
    "base: run.yaml\n", "base: /dev/zero\n", "base: ''\n", "base: .\n", "run: {name: ../../x}\n",
    "run: {name: /tmp/x}\n", 'run: {name: "a\\nb"}\n', "parallel: {placement: 'split:999999999+1'}\n",
    "parallel: {placement: 'generator=0-999999999999'}\n", "monitor: {trace_steps: ²-³}\n", "\u2028", "\ufeff")]
SAMPLES = [path.read_bytes() for path in sorted((ROOT / "configs").rglob("*.yaml")) if path.name != "base.yaml"]
KEYS = list(options())


def hostile_yaml(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.01:  # the dearest to refuse: PyYAML looks ahead from every bracket
        opening, closing = rng.choice([("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("!!seq [", "]")])
        return b"data: " + nested(rng, opening, closing).encode()
    if kind < 0.1:  # each line ten times the one before
        levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 20)]
        return "\n  ".join(["generator:", "a0: &a0 [1]", *levels, "fg_labels: *a19"]).encode()
    text = rng.choice(SAMPLES)
    if kind < 0.5:  # one option after the other, with values that are not meant for them
        lines = []
        for section, key in (rng.choice(KEYS).split(".") for _ in range(4)):
            value = rng.choice([*map(str, VALUES[:12]), *(token.decode("utf-8", "replace") for token in TOKENS)])
            lines.append(f"{section}:\n  {key}: {value}")
        text = "\n".join(lines).encode()
    return mutate(rng, text, TOKENS)


@examples(500)
def test_file(n: int, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"

    def use(data: bytes) -> None:
        path.write_bytes(data)
        cfg = load_config(path)
        assert (Path(cfg.run.root) / cfg.run.name).resolve().is_relative_to(Path(cfg.run.root).resolve())

    assert attack(n, hostile_yaml, use, tmp_path) > n / 3


@examples(300)
def test_override(n: int, tmp_path: Path) -> None:
    def override(rng: random.Random) -> str:
        key = rng.choice([*KEYS, "run", "run.", ".name", "run.name.x", "x" * 10_000, ""])
        value = rng.choice([*map(str, VALUES[:24]), "9" * 5000, "1e999", "²", "split:²+1", "split:9999999+1",
                            "a=0-9999999999", "/"])
        return f"{key}{rng.choice(['=', '=', '=', '', '=='])}{value}"

    assert attack(n, override, lambda text: load_config(None, [text]), tmp_path) > n / 3


def test_a_file_that_never_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for name in ("pipe.yaml", "/dev/zero", "."):
        (tmp_path / "run.yaml").write_text(f"base: {name}\n")
        with watched(tmp_path), pytest.raises(UserError, match="regular file"):
            load_config(tmp_path / "run.yaml")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("# " + "x" * MAX_YAML_BYTES)
    with watched(tmp_path), pytest.raises(UserError, match=f"larger than {MAX_YAML_BYTES} bytes"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("table", ["generator=0-999999999999", "generator=²,others=0", "=,=",
                                   "a=0-9,others=" + "1+" * 999])
def test_placement_table(table: str, tmp_path: Path) -> None:
    with watched(tmp_path), pytest.raises(UserError):
        explicit(specs_of(), table, 2)
