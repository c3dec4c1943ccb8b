"""The package without its checkout: what a wheel holds, and that it trains, plans and generates from another folder."""

import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.package.environments import PROJECT, Environment, MakeEnvironment
from vid2vid_dist import __version__
from vid2vid_dist.cli.commands import COMMANDS
from vid2vid_dist.cli.failures import EXTRA_OF
from vid2vid_dist.data.shards import PackOptions, make_shards
from vid2vid_dist.toy.set import ToyOptions
from vid2vid_dist.toy.street import render_toy_street

pytestmark = pytest.mark.long

TINY = ["data.loadSize=64", "generator.ngf=4", "generator.n_blocks=2", "discriminator.ndf=4", "discriminator.num_D=1",
        "discriminator.n_scales_temporal=1", "run.max_steps=2", "run.device=cpu", "run.name=try", "data.shards=shards"]

DRAW = """
import numpy as np
from vid2vid_dist.cli.entry import run_main
from vid2vid_dist.data.tasks.face import draw_edges
run_main(lambda: draw_edges(np.zeros((83, 2)), (64, 64), distances=True))
"""
FRAMES = """
import numpy as np, vid2vid_dist as v
ids = [np.zeros((32, 64), np.int64)] * 5
for frame in v.load("runs/demo").frames(ids, "none", instances=ids):
    print(frame.shape)
"""


@pytest.fixture(scope="module")
def trained(installed: MakeEnvironment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Environment, Path]:
    """An environment for training, and a folder in which it has trained two steps on two ranks."""
    folder, environment = tmp_path_factory.mktemp("elsewhere"), installed("train")
    render_toy_street(folder / "raw", ToyOptions(n_train=2, n_test=1, n_frames=8, width=64, height=32))
    make_shards(folder / "raw", folder / "shards", PackOptions(label_nc=35))
    done = environment.run("python", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m",
                           "vid2vid_dist.train", "toy/cpu", *TINY, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return environment, folder


@pytest.mark.parametrize("kind", ["wheel", "wheel_of_sdist"])
def test_wheel_holds_the_package_and_nothing_else(kind: str, request: pytest.FixtureRequest) -> None:
    with zipfile.ZipFile(request.getfixturevalue(kind)) as wheel:
        names, commit = wheel.namelist(), json.loads(wheel.read("vid2vid_dist/commit.json"))
        about = wheel.read(f"vid2vid_dist-{__version__}.dist-info/METADATA").decode()
    assert {name.split("/")[0] for name in names} == {"vid2vid_dist", f"vid2vid_dist-{__version__}.dist-info"}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "vid2vid_dist").rglob("*.py")}
    recipes = {f"vid2vid_dist/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert {name for name in names if name.startswith("vid2vid_dist/")} == {
        *ours, *recipes, "vid2vid_dist/py.typed", "vid2vid_dist/commit.json"}
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (commit["version"], commit["commit"]) == (__version__, head.stdout.strip())
    assert "License-Expression: Apache-2.0" in about
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names}


def test_trains_on_two_ranks_elsewhere(trained: tuple[Environment, Path]) -> None:
    _, folder = trained
    assert json.loads((folder / "runs/try/status.json").read_text())["status"] == "finished"


def test_console_script_trains_on_from_there(trained: tuple[Environment, Path]) -> None:
    environment, folder = trained
    done = environment.run("vid2vid-train", "toy/cpu", *TINY, "run.max_steps=3", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumed from runs/try/checkpoints/step_00000002" in done.stdout


def test_plans_before_there_is_data(trained: tuple[Environment, Path], tmp_path: Path) -> None:
    done = trained[0].run("vid2vid-plan", "street/2048", "--ranks", "8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "no shards at data/shards/cityscapes yet: planned for videos of 2048x1024 (parallel.source_size)",
        "2048x1024, 4 frames per chunk, 1 clips per step, 8 ranks"]


def test_bare_package_generates_from_an_export(
        trained: tuple[Environment, Path], installed: MakeEnvironment, tmp_path: Path) -> None:
    trainer, folder = trained
    done = trainer.run("vid2vid-export", "runs/try", str(tmp_path / "passed_on"), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert {re.split("[<>=]", text)[0] for text in PROJECT["dependencies"]} == {
        "torch", "numpy", "pillow", "av", "safetensors", "PyYAML"}
    bare = installed()
    assert bare.own == ["vid2vid_dist", f"vid2vid_dist-{__version__}.dist-info"]
    done = bare.run("vid2vid-generate", "passed_on", "--input", str(folder / "shards"), "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (page,) = tmp_path.glob("passed_on/results/*/index.html")
    assert len([*page.parent.glob("*/frames/*.png")]) == 6
    for command in (["vid2vid-train", "toy/cpu"], ["python", "-c", DRAW]):
        done = bare.run(*command, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "pip install 'vid2vid-dist[train]'" in done.stderr


def test_the_readme_in_an_empty_folder(trained: tuple[Environment, Path], tmp_path: Path) -> None:
    """With small networks on a toy street that is there, in two steps; then frames from Python, as docs/api.md says."""
    (tmp_path / "data/shards").mkdir(parents=True)
    (tmp_path / "data/shards/toy_street").symlink_to(trained[1] / "shards")
    said = (ROOT / "README.md").read_text().splitlines()
    small = [setting for setting in TINY if not setting.startswith(("run.name", "data.shards"))]
    for command, more in (("vid2vid-train toy/demo run.max_steps=50", small), ("vid2vid-generate runs/demo", [])):
        assert command in said
        done = trained[0].run(*command.split(), *more, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in tmp_path.glob("runs/demo/results/*/index.html")] == ["index.html"]
    done = trained[0].run("python", "-c", FRAMES, cwd=tmp_path)
    assert done.stdout == "(32, 64, 3)\n" * 3, done.stderr


def test_every_command_says_what_it_does(trained: tuple[Environment, Path], tmp_path: Path) -> None:
    listed = trained[0].run("python", "-m", "vid2vid_dist", cwd=tmp_path).stdout
    assert all(f"\n  {name} " in listed for name in COMMANDS)
    done = trained[0].run("vid2vid-evaluate", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("[eval]")) == (2, 1)
    for script in PROJECT["scripts"].keys() - {"vid2vid-evaluate"}:
        done = trained[0].run(script, "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert script in done.stdout
    done = trained[0].run("python", "-m", "vid2vid_dist", "trian", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: no command trian: did you mean train?\n")


def test_extras_bring_what_is_missed() -> None:
    optional = PROJECT["optional-dependencies"]
    names = {"cv2": "opencv-python-headless", "torch_fidelity": "torch-fidelity", "mlflow": "mlflow-skinny"}
    for module, extra in EXTRA_OF.items():
        assert any(text.startswith(names.get(module, module)) for text in optional[extra]), module
