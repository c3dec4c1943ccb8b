"""The files around the code say what is so."""

import re

import yaml

from tests.conftest import ROOT
from tests.package.environments import PROJECT
from vid2vid_dist import __version__


def test_licence_and_citation() -> None:
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (__version__, "Apache-2.0")


def test_changelog_begins_with_what_is_coming_or_this_version() -> None:
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] in ("Unreleased", __version__)


def test_workflows_call_what_is_here() -> None:
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text())["jobs"]
        runs = {name: " ".join(step.get("run", "") for step in job["steps"]) for name, job in jobs.items()}
        assert all(re.search(r"\.ci/run|make (test|gpu-check)( TESTS=.+)?$", said) for said in runs.values()), path
        named = re.findall(r"[\w.]+(?:/[\w.]+)+", " ".join(runs.values()))
        assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_oldest_of_everything_that_is_let_in_is_tested() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    compiled = next(step["run"] for step in workflow["jobs"]["lowest"]["steps"] if "compile" in step.get("run", ""))
    assert "--resolution lowest-direct" in compiled
    assert set(re.findall(r"--extra (\w+)", compiled)) == {"train", "eval", "onnx", "mirrors"}


def test_pre_commit_runs_the_tools_of_the_lint_target() -> None:
    hooks = [hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
             for hook in repo["hooks"]]
    lint = (ROOT / "Makefile").read_text()
    assert {hook["id"] for hook in hooks} == {"ruff", "mypy", "hadolint"}
    assert all(f"$(BIN)/{hook['id']}" in lint and hook["entry"].startswith(f".venv/bin/{hook['id']}") for hook in hooks)
