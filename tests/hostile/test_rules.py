"""What no line of the program may do with what it reads: run it, or give it to a shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCES = sorted(path.relative_to(ROOT) for package in ("vid2vid_dist", "launch", "tools")
                 for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {"eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
             "pickle.load", "pickle.loads", "marshal.load", "marshal.loads", "yaml.load", "yaml.load_all",
             "yaml.unsafe_load", "shutil.unpack_archive"}
EXTRACTS = {"extract", "extractall"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Dotted name and node of every call in a file."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def argument(call: ast.Call, name: str) -> object:
    """The constant given for a keyword, None without one."""
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_that_was_read_is_run(path: Path) -> None:
    for name, call in calls(path):
        where = f"{path}:{call.lineno}: {name}"
        assert name not in FORBIDDEN, where
        assert name.rpartition(".")[2] not in EXTRACTS, where
        assert not argument(call, "shell"), where
        if name == "torch.load":
            assert argument(call, "weights_only") is True, where
        if name == "np.load":
            assert argument(call, "allow_pickle") is not True, where


def test_pixels_are_decoded_in_one_place() -> None:
    opened = {str(path) for path in SOURCES for name, _ in calls(path) if name == "Image.open"}
    assert opened == {"vid2vid_dist/data/images.py"}
