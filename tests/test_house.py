"""The rules of the house: floors, sizes, no dead option, and docs that match the code."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.parity.options import ELSEWHERE
from vid2vid_dist.config.__main__ import template
from vid2vid_dist.config.load import load_config
from vid2vid_dist.config.options import options
from vid2vid_dist.original.options import SAME

# Bottom up. An import only ever points to a lower floor, or stays within its own package.
FLOORS = [
    {"vid2vid_dist.version", "vid2vid_dist.parent", "vid2vid_dist.compiled"},
    {"vid2vid_dist.errors", "vid2vid_dist.untrusted", "vid2vid_dist.config"},
    {"vid2vid_dist.data", "vid2vid_dist.models", "vid2vid_dist.losses", "vid2vid_dist.scores"},
    {"vid2vid_dist.network_input"},
    {"vid2vid_dist.engine"},
    {"vid2vid_dist.training", "vid2vid_dist.inference", "vid2vid_dist.monitor"},
    {"vid2vid_dist.api", "vid2vid_dist.doctor", "vid2vid_dist.original"},
    {"vid2vid_dist.toy"},  # guests: nobody in the house imports them but commands
    {"vid2vid_dist.cli"},
    {"launch", "tools", "vid2vid_dist.__main__", "vid2vid_dist.train"},
]
# Steps sideways that are meant.
SIDEWAYS = {
    ("vid2vid_dist.config", "vid2vid_dist.errors"),
    ("vid2vid_dist.config", "vid2vid_dist.untrusted"),
    ("vid2vid_dist.untrusted", "vid2vid_dist.errors"),
    ("vid2vid_dist.losses", "vid2vid_dist.models"),
    ("vid2vid_dist.scores", "vid2vid_dist.losses"),
    ("vid2vid_dist.training", "vid2vid_dist.monitor"),
    ("vid2vid_dist.inference", "vid2vid_dist.monitor"),
}
RANKLESS = ("vid2vid_dist/data/", "vid2vid_dist/models/", "vid2vid_dist/losses.py")
KNOW_DEEPSPEED = {"vid2vid_dist/engine/run/zero.py"}
MAX_LINES = 350
# What a section is called where it is read.
ALIASES = {"generator": ("gen", "cfg"), "discriminator": ("disc",), "flow": ("cfg",)}

SOURCES = sorted(path.relative_to(ROOT) for package in ("vid2vid_dist", "launch", "tools")
                 for path in (ROOT / package).rglob("*.py"))
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))
DOCS = sorted(path.relative_to(ROOT) for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
each_source = pytest.mark.parametrize("path", SOURCES, ids=str)
each_doc = pytest.mark.parametrize("path", DOCS, ids=str)


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports; `from a import b` counts as a and as a.b."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def reads(path: Path) -> set[tuple[str, str]]:
    """(owner, name) of every `owner.name` and `….owner.name`."""
    return {(node.value.id if isinstance(node.value, ast.Name) else node.value.attr, node.attr)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute)}


def room(module: str) -> str | None:
    """The entry of FLOORS that a module belongs to."""
    rooms = (room for floor in FLOORS for room in floor if f"{module}.".startswith(f"{room}."))
    return next(rooms, None)


def floor(room_name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room_name in rooms)


@each_source
def test_imports_only_point_down(path: Path) -> None:
    here = room(".".join(path.with_suffix("").parts))
    if here is None:
        assert path == Path("vid2vid_dist/__init__.py")
        return
    for there in {room(module) for module in imports(path)} - {None, here}:
        assert floor(there) < floor(here) or (here, there) in SIDEWAYS, f"{here} imports {there}"


@each_source
def test_only_the_engine_knows_ranks_and_devices(path: Path) -> None:
    modules = imports(path)
    if path.as_posix().startswith(RANKLESS):
        assert not {name for name in modules if name.startswith(("torch.distributed", "deepspeed"))}
        for node in ast.walk(tree(path)):
            named = node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(
                node, ast.Constant) else None
            assert not str(named).startswith("cuda"), f"{path}:{node.lineno} names a device"
    if path.as_posix() not in KNOW_DEEPSPEED:
        assert not {name for name in modules if name.split(".")[0] == "deepspeed"}


@each_source
def test_only_the_registry_knows_data_tasks_by_name(path: Path) -> None:
    if path.parts[0] == "vid2vid_dist" and path != Path("vid2vid_dist/data/tasks/registry.py"):
        assert not re.search(r"\.task (==|!=|in|not in) ", (ROOT / path).read_text())


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=str)
def test_file_is_short_and_says_what_it_is(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= MAX_LINES
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=str)
def test_package_init_holds_a_docstring_only(path: Path) -> None:
    """But for the package's own: what `import vid2vid_dist` gives is found there, and imported when it is used."""
    assert len(tree(path).body) == 1 or path == Path("vid2vid_dist/__init__.py")


@pytest.fixture(scope="module")
def all_reads() -> set[tuple[str, str]]:
    """What the program reads, the configuration and the tools left out."""
    readers = [path for path in SOURCES if path.parts[0] != "tools" and path.parts[1] != "config"]
    return set[tuple[str, str]]().union(*map(reads, readers))


@pytest.mark.parametrize("key", options())
def test_option_is_read_somewhere(key: str, all_reads: set[tuple[str, str]]) -> None:
    section, name = key.split(".")
    owners = (section, *ALIASES.get(section, ()))
    assert any((owner, name) in all_reads for owner in owners), f"nothing reads {key}"


def test_base_file_is_the_template() -> None:
    written = (ROOT / "configs/base.yaml").read_text()
    assert written == template(), "run: python -m vid2vid_dist.config template > configs/base.yaml"


@pytest.mark.parametrize("path", sorted({*(ROOT / "configs").rglob("*.yaml")} - {*(ROOT / "configs/chains").iterdir()}),
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_configuration_file_loads(path: Path) -> None:
    load_config(path)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_target_is_in_the_help() -> None:
    phony = set(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split())
    result = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"^  make ([a-z-]+)", result.stdout, re.MULTILINE))
    assert listed == phony == make_targets()


@each_doc
def test_docs_name_what_exists(path: Path) -> None:
    text = (ROOT / path).read_text()
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in make_targets(), f"make {target}"
    sections = {key.split(".")[0] for key in options()}
    for section, name in re.findall(r"`([a-z]+)\.([A-Za-z_]+)(?:=[^`]*)?`", text):
        assert section not in sections or f"{section}.{name}" in options(), f"{section}.{name}"
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert (ROOT / path.parent / link).exists(), link
    for file in re.findall(r"`((?:vid2vid_dist|configs|docs|tools|launch|tests)/[\w./-]*)`", text):
        assert (ROOT / file).exists(), file


def test_every_flag_of_the_original_is_explained() -> None:
    text = (ROOT / "docs/from_vid2vid.md").read_text()
    explained = set(re.findall(r"`--(\w+)`", text))
    of_the_harness = {"scale", "batch", "ngf_option", "ngf_this_scale", "getIntermFeat"}
    assert (set(SAME) | ELSEWHERE) - of_the_harness <= explained
    for name, key in SAME.items():
        if name not in of_the_harness:
            assert re.search(rf"`--{name}`[^|]*\|[^|]*`{re.escape(key)}`", text), f"{name} -> {key}"
