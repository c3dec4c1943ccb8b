"""Every error for users says what is wrong, where, and what to do: all places that raise one are walked."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

RAISED = [(path.relative_to(ROOT), node.exc) for path in sorted((ROOT / "vid2vid_dist").rglob("*.py"))
          for node in ast.walk(ast.parse(path.read_text()))
          if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
          and ast.unparse(node.exc.func) == "UserError"]
TO_DO = re.compile(
    r"\b(add|ask|begin|call|change|check|choose|convert|correct|count|cut|detect|draw|drop|end|export|fetch|fill|fit|"
    r"fix|free|give|install|join|keep|leave|let|lower|make|mark|move|name|number|pack|point|put|raise|read|remove|"
    r"rename|render|run|save|say|scale|see|select|set|shorten|split|start|store|take|train|turn|unset|use|wait|write|"
    # What is wanted, or what there is to choose from.
    r"must|needs?|needed|belongs?|at most|out of range|it has|there are|this configuration has|is meant|nearest|"
    r"vid2vid-export|only|one configuration file|are of one size|belong together)\b|--\w|pip install", re.IGNORECASE)
GIVEN = re.compile(r"fix|way_on|hint|TORCHRUN|_unknown|__doc__|error|advice")  # what to do comes from elsewhere
PLACE = re.compile(r"\b[a-z]+\.[A-Za-z_]+|--\w|[A-Z]{3,}|\w+=|pip install")  # a key, an option, a variable


def texts(call: ast.Call) -> Iterator[str]:
    return (node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def faults(call: ast.Call) -> list[str]:
    said = " ".join(texts(call))
    computed = [ast.unparse(node) for argument in call.args for node in ast.walk(argument)
                if isinstance(node, ast.Name | ast.Attribute | ast.Call)]
    return [*(["what to do"] if not TO_DO.search(said) and not GIVEN.search(" ".join(computed)) else []),
            *(["where"] if not computed and not PLACE.search(said) else []),
            *(["on one line"] if "\n" in said else [])]


@pytest.mark.parametrize(("path", "call"), RAISED, ids=[f"{path.stem}:{call.lineno}" for path, call in RAISED])
def test_what_is_wrong_where_and_what_to_do(path: object, call: ast.Call) -> None:
    assert faults(call) == [], f"{path}:{call.lineno}: {ast.unparse(call)}"


def test_a_message_without_advice_is_found() -> None:
    (call,) = (node.value for node in ast.parse('UserError("it is damaged\\n")').body if isinstance(node, ast.Expr))
    assert isinstance(call, ast.Call)
    assert faults(call) == ["what to do", "where", "on one line"]
    assert len(RAISED) > 200
