"""The wheel, by way of a source distribution too, and environments with it."""

import tarfile
from pathlib import Path

import pytest

from tests.package.environments import Environment, MakeEnvironment, build, call, clone


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout's files, built as `pip wheel` does."""
    out = tmp_path_factory.mktemp("wheel")
    build(clone(tmp_path_factory.mktemp("clone")), out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def wheel_of_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel by way of a source distribution, which has no repository around it."""
    out, source = tmp_path_factory.mktemp("sdist"), clone(tmp_path_factory.mktemp("clone"))
    call("-c", f"from setuptools.build_meta import build_sdist; build_sdist({str(out)!r})", cwd=source)
    with tarfile.open(next(out.glob("*.tar.gz"))) as tar:
        tar.extractall(out, filter="data")
    build(next(path for path in out.iterdir() if path.is_dir()), out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeEnvironment:
    """Make an environment with the wheel and some extras."""
    return lambda *extras: Environment(tmp_path_factory.mktemp("environment"), wheel, extras)
